//! The rules of a single appointment: given these events, when this is asked, then that comes.

use annals::Query;
use annals::testing::{Case, Given, given};
use clinic::{Appointment, Booking, Command, Event, Refusal, Slot, State, Time};

const EIGHT: &str = "2026-11-23T08:00:00.000Z";
const NINE: &str = "2026-11-23T09:00:00.000Z";
const TEN: &str = "2026-11-23T10:00:00.000Z";
const ELEVEN: &str = "2026-11-23T11:00:00.000Z";

fn time(text: &str) -> Time {
    Time::parse(text).expect("a time")
}

fn booking() -> Booking {
    Booking {
        doctor: "7".into(),
        patient: "p-1".into(),
        room: "3".into(),
        appointment_type: "check-up".into(),
        start: time(NINE),
        end: time(TEN),
        title: "Blood pressure".into(),
        comment: String::new(),
    }
}

fn slot(room: &str, start: &str, end: &str) -> Slot {
    Slot { doctor: "7".into(), room: room.into(), start: time(start), end: time(end) }
}

fn booked() -> Event {
    Event::AppointmentBooked(booking())
}

fn cancelled() -> Event {
    Event::AppointmentCancelled { reason: "ill".into() }
}

fn book() -> Command {
    Command::BookAppointment {
        doctor: "7".into(),
        patient: "p-1".into(),
        room: "3".into(),
        appointment_type: "check-up".into(),
        start: NINE.into(),
        end: TEN.into(),
        title: "Blood pressure".into(),
        comment: None,
    }
}

fn book_from(start: &str, end: &str) -> Command {
    let mut command = book();
    if let Command::BookAppointment { start: from, end: until, .. } = &mut command {
        *from = start.into();
        *until = end.into();
    }
    command
}

fn reschedule(start: &str, end: &str, room: Option<&str>) -> Command {
    let room = room.map(Into::into);
    Command::RescheduleAppointment { start: start.into(), end: end.into(), room }
}

fn update(title: Option<&str>, comment: Option<&str>, appointment_type: Option<&str>) -> Command {
    let [title, comment, appointment_type] =
        [title, comment, appointment_type].map(|text| text.map(Into::into));
    Command::UpdateAppointment { title, comment, appointment_type }
}

fn confirm() -> Command {
    Command::ConfirmAppointment {}
}

fn cancel() -> Command {
    Command::CancelAppointment { reason: None }
}

/// An appointment to which these events have happened, at eight.
#[track_caller]
fn at_eight(events: impl IntoIterator<Item = Event>) -> Case<Appointment, Given> {
    given(events).at(EIGHT)
}

const CONFIRMED: Event = Event::AppointmentConfirmed {};

#[test]
fn a_free_slot_can_be_booked() {
    at_eight([]).when(book()).then([booked()]).then_state(State::Booked(booking()));
}

#[test]
fn an_appointment_is_booked_once() {
    at_eight([booked()]).when(book()).then_refused(Refusal::AlreadyBooked);
    at_eight([booked(), CONFIRMED]).when(book()).then_refused(Refusal::AlreadyBooked);
}

#[test]
fn what_was_never_booked_can_t_be_changed() {
    for command in [reschedule(NINE, TEN, None), update(None, None, None), confirm(), cancel()] {
        at_eight([]).when(command).then_refused(Refusal::NotBooked);
    }
}

#[test]
fn nothing_changes_after_a_cancellation() {
    let gone = at_eight([booked(), cancelled()]).then_state(State::Cancelled(booking()));
    let update = update(Some("Other"), None, None);
    for command in [book(), reschedule(TEN, ELEVEN, None), update, confirm(), cancel()] {
        gone.clone().when(command).then_refused(Refusal::AlreadyCancelled);
    }
}

#[test]
fn a_slot_may_begin_when_the_command_is_given_but_not_before() {
    at_eight([]).when(book_from(EIGHT, NINE)).then_state(State::Booked(Booking {
        start: time(EIGHT),
        end: time(NINE),
        ..booking()
    }));
    let past = Refusal::SlotInPast { issued_at: EIGHT.into() };
    at_eight([]).when(book_from("2026-11-23T07:59:59.999Z", NINE)).then_refused(&past);
    at_eight([booked()])
        .when(reschedule("2026-11-23T07:30:00.000Z", NINE, None))
        .then_refused(past);
}

#[test]
fn an_appointment_ends_after_it_starts_and_within_twelve_hours() {
    let from = |start, end| at_eight([]).when(book_from(start, end));
    from(NINE, NINE).then_refused(Refusal::EndNotAfterStart);
    from(TEN, NINE).then_refused(Refusal::EndNotAfterStart);
    from(NINE, "2026-11-23T21:00:00.000Z")
        .then_state(State::Booked(Booking { end: time("2026-11-23T21:00:00.000Z"), ..booking() }));
    let too_long = Refusal::TooLong { max_minutes: 720 };
    from(NINE, "2026-11-23T21:00:00.001Z").then_refused(&too_long);
    from(NINE, "9999-12-31T23:59:59.999Z").then_refused(too_long);
}

#[test]
fn only_one_way_of_writing_a_time_will_do() {
    for text in [
        "",
        "tomorrow",
        "2026-11-23",
        "2026-11-23T09:00Z",
        "2026-11-23T09:00:00Z",
        "2026-11-23T09:00:00.00Z",
        "2026-11-23T09:00:00.0000Z",
        "2026-11-23T09:00:00.000",
        "2026-11-23T09:00:00.000z",
        "2026-11-23t09:00:00.000Z",
        "2026-11-23 09:00:00.000Z",
        " 2026-11-23T09:00:00.000Z",
        "2026-11-23T09:00:00.000Z ",
        "2026-11-23T10:00:00.000+01:00",
        "2026-11-23T09:00:00.000+00:00",
        "2026-11-23T24:00:00.000Z",
        "2026-11-23T23:59:60.000Z",
        "2026-02-29T09:00:00.000Z",
        "2026-13-01T09:00:00.000Z",
        "+002026-11-23T09:00:00.000Z",
        "+012026-11-23T09:00:00.000Z",
        "-000001-11-23T09:00:00.000Z",
        "２026-11-23T09:00:00.000Z",
    ] {
        let refusal = |field| Refusal::InvalidTime { field, value: text.into() };
        at_eight([]).when(book_from(text, TEN)).then_refused(refusal("start"));
        at_eight([]).when(book_from(NINE, text)).then_refused(refusal("end"));
        at_eight([booked()]).when(reschedule(NINE, text, None)).then_refused(refusal("end"));
    }
    for text in ["0000-01-01T00:00:00.000Z", "2028-02-29T09:00:00.000Z", "9999-12-31T23:59:59.999Z"]
    {
        assert_eq!(time(text).to_string(), text);
    }
}

#[test]
fn names_are_short_and_plain() {
    let long = "x".repeat(65);
    for name in ["", " ", "7/2026-11-23", "Dr. No", "é", "a\0b", long.as_str()] {
        for field in ["doctor", "patient", "room", "appointmentType"] {
            let mut command = book();
            if let Command::BookAppointment { doctor, patient, room, appointment_type, .. } =
                &mut command
            {
                let target = match field {
                    "doctor" => doctor,
                    "patient" => patient,
                    "room" => room,
                    _ => appointment_type,
                };
                *target = name.into();
            }
            at_eight([]).when(command).then_refused(Refusal::InvalidName { field });
        }
        let moved = reschedule(TEN, ELEVEN, Some(name));
        at_eight([booked()]).when(moved).then_refused(Refusal::InvalidName { field: "room" });
    }
}

#[test]
fn a_title_is_not_blank() {
    for blank in ["", " ", "\t\r\n "] {
        let mut command = book();
        if let Command::BookAppointment { title, .. } = &mut command {
            *title = blank.into();
        }
        at_eight([]).when(command).then_refused(Refusal::TitleMissing);
        let update = update(Some(blank), None, None);
        at_eight([booked()]).when(update).then_refused(Refusal::TitleMissing);
    }
}

#[test]
fn a_move_keeps_the_doctor_and_undoes_the_confirmation() {
    let confirmed = at_eight([booked(), CONFIRMED]).then_state(State::Confirmed(booking()));
    confirmed
        .clone()
        .when(reschedule(TEN, ELEVEN, None))
        .then([Event::AppointmentRescheduled(slot("3", TEN, ELEVEN))])
        .then_state(State::Booked(Booking { start: time(TEN), end: time(ELEVEN), ..booking() }));
    confirmed
        .when(reschedule(NINE, TEN, Some("4")))
        .then([Event::AppointmentRescheduled(slot("4", NINE, TEN))]);
}

#[test]
fn a_move_to_where_it_is_changes_nothing_even_when_it_has_begun() {
    at_eight([booked()])
        .when(reschedule(NINE, TEN, Some("3")))
        .then_nothing()
        .at("2026-11-23T09:30:00.000Z")
        .when(reschedule(NINE, TEN, None))
        .then_nothing();
}

#[test]
fn an_update_tells_only_what_changed() {
    at_eight([booked()])
        .when(update(Some("Blood pressure"), Some("fasting"), Some("check-up")))
        .then([Event::AppointmentUpdated {
            title: None,
            comment: Some("fasting".into()),
            appointment_type: None,
        }])
        .then_state(State::Booked(Booking { comment: "fasting".into(), ..booking() }));
    at_eight([booked()])
        .when(update(None, None, None))
        .then_nothing()
        .when(update(Some("Blood pressure"), Some(""), None))
        .then_nothing();
}

#[test]
fn an_update_keeps_the_confirmation() {
    let updated = Event::AppointmentUpdated {
        title: Some("Check".into()),
        comment: None,
        appointment_type: Some("follow-up".into()),
    };
    given::<Appointment>([booked(), CONFIRMED, updated]).then_state(State::Confirmed(Booking {
        title: "Check".into(),
        appointment_type: "follow-up".into(),
        ..booking()
    }));
}

#[test]
fn a_time_is_confirmed_once() {
    at_eight([booked()])
        .when(confirm())
        .then([CONFIRMED])
        .when(confirm())
        .then_refused(Refusal::AlreadyConfirmed);
}

const HERE: [&str; 2] = ["doctor:7/2026-11-23", "room:3/2026-11-23"];

#[test]
fn what_takes_or_frees_a_slot_has_its_tags() {
    at_eight([]).when(book()).then_tags([HERE]);
    at_eight([booked()]).when(cancel()).then_tags([HERE]);
    at_eight([booked()]).when(confirm()).then_tags([[""; 0]]);
    let (start, end) = ("2026-11-24T09:00:00.000Z", "2026-11-24T10:00:00.000Z");
    at_eight([booked()]).when(reschedule(start, end, Some("4"))).then_tags([[
        "doctor:7/2026-11-24",
        "room:4/2026-11-24",
        HERE[0],
        HERE[1],
    ]]);
    at_eight([booked()]).when(reschedule(TEN, ELEVEN, None)).then_tags([HERE]);
}

#[test]
fn a_slot_has_tags_for_each_day_it_touches() {
    let tags = |start, end| slot("3", start, end).tags().join(" ");
    assert_eq!(
        tags("2026-12-31T23:00:00.000Z", "2027-01-01T00:00:00.000Z"),
        "doctor:7/2026-12-31 room:3/2026-12-31"
    );
    assert_eq!(
        tags("2026-12-31T23:00:00.000Z", "2027-01-01T00:00:00.001Z"),
        "doctor:7/2026-12-31 room:3/2026-12-31 doctor:7/2027-01-01 room:3/2027-01-01"
    );
}

#[test]
fn a_decision_reads_the_slot_it_wants_and_nothing_else() {
    at_eight([]).when(book()).then_reads(Query::any_tag(HERE));
    at_eight([booked()])
        .when(reschedule(TEN, ELEVEN, Some("4")))
        .then_reads(Query::any_tag(["doctor:7/2026-11-23", "room:4/2026-11-23"]));
    let none = Query::none();
    at_eight([]).when(book_from("never", TEN)).then_reads(&none);
    at_eight([]).when(reschedule(TEN, ELEVEN, None)).then_reads(&none);
    for command in
        [reschedule(TEN, "never", None), update(Some("Other"), None, None), confirm(), cancel()]
    {
        at_eight([booked()]).when(command).then_reads(&none);
    }
}

#[test]
fn what_earlier_releases_have_stored_is_read_as_today() {
    let given = || given::<Appointment>([booked()]);
    given()
        .stored("AppointmentAcknowledged", 1, "{}")
        .then_upcast([Event::AppointmentConfirmed {}])
        .then_state(State::Confirmed(booking()));
    for (data, reason) in [("{}", ""), (r#"{"reason":"ill"}"#, "ill")] {
        given()
            .stored("AppointmentCancelled", 1, data)
            .then_upcast([Event::AppointmentCancelled { reason: reason.into() }])
            .then_state(State::Cancelled(booking()));
    }
}
