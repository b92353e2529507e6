//! No doctor and no room has two appointments at a time: the rule across streams, on a whole engine.

use annals::storage::{Annals, Clock, CommandOptions, MemoryStore};
use annals::{AggregateDefinition, CommandError, Config, Error, Timestamp};
use clinic::{Appointment, Command};

/// Eight in the morning, always.
struct Eight;

impl Clock for Eight {
    fn now(&self) -> Timestamp {
        "2026-11-23T08:00:00.000Z".parse().expect("a time")
    }

    fn sleep(&mut self, _: u64) {}
}

struct Clinic(Annals<MemoryStore, Eight>);

impl Clinic {
    fn open() -> Self {
        let config = Config::new([7; 32], vec![AggregateDefinition::native::<Appointment>()]);
        Self(Annals::new(config, MemoryStore::new("clinic"), Eight).expect("one aggregate"))
    }

    /// `"done"`, or the refusal's code and details.
    fn give(&mut self, id: &str, command: &Command) -> String {
        match self.0.execute::<Appointment>(id, command, CommandOptions::default()) {
            Ok(_) => "done".into(),
            Err(Error::Command(CommandError::Refused { code, details })) => {
                format!("{code} {details}")
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A booking on the given day of November 2026, from one time of day to another.
fn book(doctor: &str, room: &str, day: u32, from: &str, to: &str) -> Command {
    Command::BookAppointment {
        doctor: doctor.into(),
        patient: "p-1".into(),
        room: room.into(),
        appointment_type: "check-up".into(),
        start: at(day, from),
        end: at(day, to),
        title: "Check".into(),
        comment: None,
    }
}

fn move_to(room: Option<&str>, day: u32, from: &str, to: &str) -> Command {
    let room = room.map(Into::into);
    Command::RescheduleAppointment { start: at(day, from), end: at(day, to), room }
}

fn at(day: u32, time: &str) -> String {
    format!("2026-11-{day}T{time}:00.000Z")
}

fn taken(what: &str, by: &str, day: u32, from: &str, to: &str) -> String {
    let (from, to) = (at(day, from), at(day, to));
    format!(r#"{what}-taken {{"by":"{by}","start":"{from}","end":"{to}"}}"#)
}

const CANCEL: Command = Command::CancelAppointment { reason: None };

#[test]
fn appointments_may_touch_but_not_overlap() {
    let mut clinic = Clinic::open();
    assert_eq!(clinic.give("a", &book("7", "3", 23, "10:00", "11:00")), "done");
    for (from, to) in
        [("10:00", "11:00"), ("09:30", "10:01"), ("10:59", "12:00"), ("09:00", "12:00")]
    {
        let booking = book("7", "4", 23, from, to);
        assert_eq!(clinic.give("b", &booking), taken("doctor", "a", 23, "10:00", "11:00"));
    }
    assert_eq!(clinic.give("b", &book("7", "3", 23, "09:00", "10:00")), "done");
    assert_eq!(clinic.give("c", &book("7", "3", 23, "11:00", "12:00")), "done");
}

#[test]
fn a_room_holds_one_appointment_at_a_time_whoever_is_in_it() {
    let mut clinic = Clinic::open();
    assert_eq!(clinic.give("a", &book("7", "3", 23, "10:00", "11:00")), "done");
    let refusal = taken("room", "a", 23, "10:00", "11:00");
    assert_eq!(clinic.give("b", &book("8", "3", 23, "10:30", "11:30")), refusal);
    assert_eq!(clinic.give("b", &book("8", "4", 23, "10:30", "11:30")), "done");
    assert_eq!(clinic.give("b", &move_to(Some("3"), 23, "10:30", "11:30")), refusal);
}

#[test]
fn of_several_in_the_way_the_earliest_is_named_and_the_doctor_s_first() {
    let mut clinic = Clinic::open();
    assert_eq!(clinic.give("z", &book("7", "3", 23, "09:00", "10:00")), "done");
    assert_eq!(clinic.give("a", &book("7", "3", 23, "10:00", "11:00")), "done");
    assert_eq!(clinic.give("m", &book("8", "4", 23, "08:30", "09:30")), "done");
    assert_eq!(
        clinic.give("b", &book("7", "4", 23, "08:30", "11:00")),
        taken("doctor", "z", 23, "09:00", "10:00")
    );
    assert_eq!(
        clinic.give("b", &book("9", "4", 23, "08:30", "11:00")),
        taken("room", "m", 23, "08:30", "09:30")
    );
}

#[test]
fn a_cancellation_frees_the_slot() {
    let mut clinic = Clinic::open();
    let booking = book("7", "3", 23, "10:00", "11:00");
    assert_eq!(clinic.give("a", &booking), "done");
    assert_eq!(clinic.give("a", &CANCEL), "done");
    assert_eq!(clinic.give("b", &booking), "done");
}

#[test]
fn a_move_takes_one_slot_and_frees_the_other() {
    let mut clinic = Clinic::open();
    assert_eq!(clinic.give("a", &book("7", "3", 23, "10:00", "11:00")), "done");
    assert_eq!(clinic.give("a", &move_to(Some("4"), 24, "10:00", "11:00")), "done");
    assert_eq!(clinic.give("b", &book("7", "3", 23, "10:00", "11:00")), "done");
    assert_eq!(
        clinic.give("c", &book("7", "3", 24, "10:00", "11:00")),
        taken("doctor", "a", 24, "10:00", "11:00")
    );
    assert_eq!(
        clinic.give("c", &book("8", "4", 24, "10:00", "11:00")),
        taken("room", "a", 24, "10:00", "11:00")
    );
    // Back to where another is by now.
    assert_eq!(
        clinic.give("a", &move_to(None, 23, "10:30", "11:30")),
        taken("doctor", "b", 23, "10:00", "11:00")
    );
}

#[test]
fn an_appointment_is_not_in_its_own_way() {
    let mut clinic = Clinic::open();
    assert_eq!(clinic.give("a", &book("7", "3", 23, "10:00", "11:00")), "done");
    assert_eq!(clinic.give("a", &move_to(None, 23, "10:30", "11:30")), "done");
}

#[test]
fn an_appointment_over_midnight_takes_both_days() {
    let mut clinic = Clinic::open();
    let mut night = book("7", "3", 23, "22:00", "23:00");
    if let Command::BookAppointment { end, .. } = &mut night {
        *end = at(24, "02:00");
    }
    assert_eq!(clinic.give("a", &night), "done");
    let refusal = clinic.give("b", &book("7", "4", 24, "01:00", "01:30"));
    assert!(refusal.starts_with("doctor-taken"), "{refusal}");
    assert_eq!(clinic.give("b", &book("7", "3", 24, "02:00", "03:00")), "done");
}

#[test]
fn bookings_given_together_are_all_judged() {
    let mut clinic = Clinic::open();
    let commands: Vec<(String, Command)> = (0..64)
        .map(|i| {
            let (hour, minute) = (8 + i / 8, (i % 8) * 7);
            let (from, to) =
                (format!("{hour:02}:{minute:02}"), format!("{hour:02}:{:02}", minute + 7));
            (format!("a-{i}"), book("7", "3", 23, &from, &to))
        })
        .collect();
    let give = |clinic: &mut Clinic, prefix: &str| {
        let ids: Vec<String> = commands.iter().map(|(id, _)| format!("{prefix}{id}")).collect();
        let given = ids.iter().zip(&commands);
        let given = given.map(|(id, (_, command))| (&**id, command, CommandOptions::default()));
        let results = clinic.0.execute_all::<Appointment>(given).expect("all can be given");
        results.iter().filter(|result| result.is_ok()).count()
    };
    assert_eq!(give(&mut clinic, ""), 64);
    assert_eq!(give(&mut clinic, "again-"), 0);
}
