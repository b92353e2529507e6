//! Plays a script of commands through the domain, natively, and prints what comes of each as a line
//! of canonical JSON (keys sorted, no white space), then every event of the log, then each
//! appointment at every revision, then the agenda after every event.
//!
//! ```sh
//! cargo run -p clinic --example play -- pkg-tests/clinic/script.json
//! ```

use std::collections::BTreeSet;
use std::error::Error;

use annals::protocol::{LogEnd, LogFilter, ReadAt, ViewAt, ViewScan};
use annals::storage::{Annals, Clock, CommandOptions, Executed, MemoryStore};
use annals::{
    AggregateDefinition, CommandError, Config, ExpectedRevision, Metadata, Position,
    ProjectionDefinition, RecordedEvent, Revision, Timestamp,
};
use clinic::{Agenda, Appointment};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    id: String,
    command: StepCommand,
    command_id: String,
    issued_at: String,
    actor: String,
    expected_revision: Option<u64>,
}

#[derive(Deserialize)]
struct StepCommand {
    r#type: String,
    data: Value,
}

/// Always the same moment, so that two runs print the same.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_795_420_800_000)
    }

    fn sleep(&mut self, _: u64) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("expected the name of a script")?;
    let steps: Vec<Step> = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let mut config = Config::new([7; 32], vec![AggregateDefinition::native::<Appointment>()]);
    config.projections = vec![ProjectionDefinition::native::<Agenda>()];
    let mut annals = Annals::new(config, MemoryStore::new("play"), Still)?;

    for step in &steps {
        println!("{}", outcome(&mut annals, step)?);
    }
    let mut after = Position(0);
    let mut positions = vec![after];
    let mut tags = BTreeSet::new();
    while let Some(page) = annals.events(after, LogFilter::default(), 100)? {
        for event in &page.events {
            println!("{}", event_json(event)?);
            positions.push(event.position);
            tags.extend(event.tags.iter().map(ToString::to_string));
        }
        after = page.next;
    }
    let ids: BTreeSet<&str> = steps.iter().map(|step| &*step.id).collect();
    for id in ids {
        let last = annals.state::<Appointment>(id, ReadAt::Now)?.revision.0;
        for revision in 0..=last {
            let read = annals.state::<Appointment>(id, ReadAt::Revision(Revision(revision)))?;
            println!("{}", json!({ "id": id, "revision": revision, "state": read.state }));
        }
    }
    for (after, position) in positions.iter().enumerate() {
        let past = ViewAt::Past(LogEnd::Position(*position));
        let agenda = entries(&mut annals, ViewScan::by_index("start"), past)?;
        println!("{}", json!({ "after": after, "agenda": agenda }));
    }
    let last = ViewScan { descending: true, ..ViewScan::by_index("held") };
    println!("{}", json!({ "agenda": entries(&mut annals, last, ViewAt::Reached)? }));
    for tag in tags {
        let held = ViewScan::by_index("held").equal(&*tag);
        let agenda = entries(&mut annals, held, ViewAt::Reached)?;
        println!("{}", json!({ "held": tag, "agenda": agenda }));
    }
    Ok(())
}

fn outcome(annals: &mut Annals<MemoryStore, Still>, step: &Step) -> Result<Value, Box<dyn Error>> {
    let StepCommand { r#type, data } = &step.command;
    let command = serde_json::from_value(json!({ r#type: data }))?;
    let options = CommandOptions {
        command_id: Some(step.command_id.parse()?),
        expected: step
            .expected_revision
            .map_or(ExpectedRevision::Any, |revision| ExpectedRevision::Exact(Revision(revision))),
        issued_at: Some(step.issued_at.parse()?),
        metadata: Metadata { actor: Some((*step.actor).into()), ..Metadata::default() },
    };
    Ok(match annals.execute::<Appointment>(&step.id, &command, options) {
        Ok(executed) => executed_json(&executed)?,
        Err(annals::Error::Command(CommandError::Refused { code, details })) => {
            let details: Value = serde_json::from_str(&details)?;
            json!({ "refused": { "code": &*code, "details": details } })
        }
        Err(annals::Error::Command(error)) => json!({ "error": error.code() }),
        Err(error) => return Err(error.into()),
    })
}

/// Keys and documents.
fn entries(
    annals: &mut Annals<MemoryStore, Still>,
    scan: ViewScan,
    at: ViewAt,
) -> Result<Vec<Value>, Box<dyn Error>> {
    let found = annals.documents::<Agenda>(scan, at)?;
    let entry = |listed: &annals::storage::Listed<clinic::Entry>| json!({ "key": &*listed.place.key, "document": listed.document });
    Ok(found.documents.iter().map(entry).collect())
}

fn executed_json(executed: &Executed<Appointment>) -> Result<Value, Box<dyn Error>> {
    let events: Result<Vec<Value>, _> = executed.events.iter().map(event_json).collect();
    Ok(json!({
        "events": events?,
        "state": executed.state,
        "revision": executed.revision.0,
        "commandId": executed.command_id.to_string(),
        "duplicate": executed.duplicate,
    }))
}

/// All of an event but when it was recorded, and its position, which belongs to a store.
fn event_json(event: &RecordedEvent) -> Result<Value, Box<dyn Error>> {
    let tags: Vec<&str> = event.tags.iter().map(|tag| &**tag).collect();
    let data: Value = serde_json::from_str(&event.data)?;
    Ok(json!({
        "stream": { "type": &*event.stream.aggregate_type, "id": &*event.stream.aggregate_id },
        "revision": event.revision.0,
        "eventId": event.event_id.to_string(),
        "type": &*event.event_type,
        "data": data,
        "tags": tags,
        "commandId": event.command_id.to_string(),
        "issuedAt": event.issued_at.to_string(),
        "actor": event.metadata.actor.as_deref(),
    }))
}
