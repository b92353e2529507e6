//! The rules of a single appointment: given these events, when this is asked, then that comes.

use annals::{Aggregate, Context, Timestamp};
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

fn state_after(events: &[Event]) -> State {
    events.iter().fold(Appointment::initial(), Appointment::evolve)
}

/// What comes of a command given at eight to an appointment to which these events have happened.
fn when(events: &[Event], command: &Command) -> Result<Vec<Event>, Refusal> {
    let issued_at: Timestamp = EIGHT.parse().expect("a time");
    Appointment::decide(&state_after(events), command, &Context { issued_at, others: &[] })
}

#[test]
fn a_free_slot_can_be_booked() {
    assert_eq!(when(&[], &book()), Ok(vec![booked()]));
    assert_eq!(state_after(&[booked()]), State::Booked(booking()));
}

#[test]
fn an_appointment_is_booked_once() {
    assert_eq!(when(&[booked()], &book()), Err(Refusal::AlreadyBooked));
    let confirmed = [booked(), Event::AppointmentConfirmed {}];
    assert_eq!(when(&confirmed, &book()), Err(Refusal::AlreadyBooked));
}

#[test]
fn what_was_never_booked_can_t_be_changed() {
    for command in [reschedule(NINE, TEN, None), update(None, None, None), confirm(), cancel()] {
        assert_eq!(when(&[], &command), Err(Refusal::NotBooked), "{command:?}");
    }
}

#[test]
fn nothing_changes_after_a_cancellation() {
    let events = [booked(), cancelled()];
    assert_eq!(state_after(&events), State::Cancelled(booking()));
    let update = update(Some("Other"), None, None);
    for command in [book(), reschedule(TEN, ELEVEN, None), update, confirm(), cancel()] {
        assert_eq!(when(&events, &command), Err(Refusal::AlreadyCancelled), "{command:?}");
    }
}

#[test]
fn a_slot_may_begin_when_the_command_is_given_but_not_before() {
    assert!(when(&[], &book_from(EIGHT, NINE)).is_ok());
    let past = Err(Refusal::SlotInPast { issued_at: EIGHT.into() });
    assert_eq!(when(&[], &book_from("2026-11-23T07:59:59.999Z", NINE)), past);
    assert_eq!(when(&[booked()], &reschedule("2026-11-23T07:30:00.000Z", NINE, None)), past);
}

#[test]
fn an_appointment_ends_after_it_starts_and_within_twelve_hours() {
    assert_eq!(when(&[], &book_from(NINE, NINE)), Err(Refusal::EndNotAfterStart));
    assert_eq!(when(&[], &book_from(TEN, NINE)), Err(Refusal::EndNotAfterStart));
    assert!(when(&[], &book_from(NINE, "2026-11-23T21:00:00.000Z")).is_ok());
    let too_long = Err(Refusal::TooLong { max_minutes: 720 });
    assert_eq!(when(&[], &book_from(NINE, "2026-11-23T21:00:00.001Z")), too_long);
    assert_eq!(when(&[], &book_from(NINE, "9999-12-31T23:59:59.999Z")), too_long);
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
        let refusal = |field| Err(Refusal::InvalidTime { field, value: text.into() });
        assert_eq!(when(&[], &book_from(text, TEN)), refusal("start"));
        assert_eq!(when(&[], &book_from(NINE, text)), refusal("end"));
        assert_eq!(when(&[booked()], &reschedule(NINE, text, None)), refusal("end"));
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
            assert_eq!(when(&[], &command), Err(Refusal::InvalidName { field }), "{name:?}");
        }
        let moved = reschedule(TEN, ELEVEN, Some(name));
        assert_eq!(when(&[booked()], &moved), Err(Refusal::InvalidName { field: "room" }));
    }
}

#[test]
fn a_title_is_not_blank() {
    for blank in ["", " ", "\t\r\n "] {
        let mut command = book();
        if let Command::BookAppointment { title, .. } = &mut command {
            *title = blank.into();
        }
        assert_eq!(when(&[], &command), Err(Refusal::TitleMissing));
        let update = update(Some(blank), None, None);
        assert_eq!(when(&[booked()], &update), Err(Refusal::TitleMissing));
    }
}

#[test]
fn a_move_keeps_the_doctor_and_undoes_the_confirmation() {
    let confirmed = [booked(), Event::AppointmentConfirmed {}];
    assert_eq!(state_after(&confirmed), State::Confirmed(booking()));

    let moved = Event::AppointmentRescheduled(slot("3", TEN, ELEVEN));
    assert_eq!(when(&confirmed, &reschedule(TEN, ELEVEN, None)), Ok(vec![moved.clone()]));
    let expected = Booking { start: time(TEN), end: time(ELEVEN), ..booking() };
    assert_eq!(state_after(&[booked(), Event::AppointmentConfirmed {}, moved]), {
        State::Booked(expected)
    });

    let other_room = Event::AppointmentRescheduled(slot("4", NINE, TEN));
    assert_eq!(when(&confirmed, &reschedule(NINE, TEN, Some("4"))), Ok(vec![other_room]));
}

#[test]
fn a_move_to_where_it_is_changes_nothing_even_when_it_has_begun() {
    assert_eq!(when(&[booked()], &reschedule(NINE, TEN, Some("3"))), Ok(vec![]));
    let issued_at: Timestamp = "2026-11-23T09:30:00.000Z".parse().expect("a time");
    let context = Context { issued_at, others: &[] };
    let state = state_after(&[booked()]);
    assert_eq!(Appointment::decide(&state, &reschedule(NINE, TEN, None), &context), Ok(vec![]));
}

#[test]
fn an_update_tells_only_what_changed() {
    let asked = update(Some("Blood pressure"), Some("fasting"), Some("check-up"));
    let updated = Event::AppointmentUpdated {
        title: None,
        comment: Some("fasting".into()),
        appointment_type: None,
    };
    assert_eq!(when(&[booked()], &asked), Ok(vec![updated.clone()]));
    let commented = Booking { comment: "fasting".into(), ..booking() };
    assert_eq!(state_after(&[booked(), updated]), State::Booked(commented));

    assert_eq!(when(&[booked()], &update(None, None, None)), Ok(vec![]));
    assert_eq!(when(&[booked()], &update(Some("Blood pressure"), Some(""), None)), Ok(vec![]));
}

#[test]
fn an_update_keeps_the_confirmation() {
    let updated = Event::AppointmentUpdated {
        title: Some("Check".into()),
        comment: None,
        appointment_type: Some("follow-up".into()),
    };
    let state = state_after(&[booked(), Event::AppointmentConfirmed {}, updated]);
    let expected =
        Booking { title: "Check".into(), appointment_type: "follow-up".into(), ..booking() };
    assert_eq!(state, State::Confirmed(expected));
}

#[test]
fn a_time_is_confirmed_once() {
    assert_eq!(when(&[booked()], &confirm()), Ok(vec![Event::AppointmentConfirmed {}]));
    let confirmed = [booked(), Event::AppointmentConfirmed {}];
    assert_eq!(when(&confirmed, &confirm()), Err(Refusal::AlreadyConfirmed));
}

#[test]
fn what_takes_or_frees_a_slot_has_its_tags() {
    let tags = |event: &Event, before: &[Event]| -> Vec<String> {
        Appointment::tags(event, &state_after(before)).iter().map(ToString::to_string).collect()
    };
    let here = ["doctor:7/2026-11-23", "room:3/2026-11-23"];
    assert_eq!(tags(&booked(), &[]), here);
    assert_eq!(tags(&cancelled(), &[booked()]), here);
    assert_eq!(tags(&Event::AppointmentConfirmed {}, &[booked()]), [""; 0]);

    let tomorrow = slot("4", "2026-11-24T09:00:00.000Z", "2026-11-24T10:00:00.000Z");
    assert_eq!(tags(&Event::AppointmentRescheduled(tomorrow), &[booked()]), {
        ["doctor:7/2026-11-24", "room:4/2026-11-24", here[0], here[1]]
    });
    let later = slot("3", TEN, ELEVEN);
    assert_eq!(tags(&Event::AppointmentRescheduled(later), &[booked()]), here);
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
    let read = |command: &Command, events: &[Event]| -> Vec<String> {
        let query = Appointment::reads(command, &state_after(events));
        query.items.iter().flat_map(|item| &item.tags).map(ToString::to_string).collect()
    };
    assert_eq!(read(&book(), &[]), ["doctor:7/2026-11-23", "room:3/2026-11-23"]);
    assert_eq!(read(&reschedule(TEN, ELEVEN, Some("4")), &[booked()]), {
        ["doctor:7/2026-11-23", "room:4/2026-11-23"]
    });
    for (command, events) in [
        (book_from("never", TEN), vec![]),
        (reschedule(TEN, ELEVEN, None), vec![]),
        (reschedule(TEN, "never", None), vec![booked()]),
        (update(Some("Other"), None, None), vec![booked()]),
        (confirm(), vec![booked()]),
        (cancel(), vec![booked()]),
    ] {
        assert_eq!(read(&command, &events), [""; 0], "{command:?}");
    }
}
