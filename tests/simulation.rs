//! The engine under everything that can go wrong between it and its store.

use annals::testing::{Faults, Report, Scenario, simulate};
use annals::{Mutation, StartAt, ViewKind};

#[test]
fn no_seed_breaks_a_promise() {
    let mut total = Report::default();
    for seed in 0..3_000 {
        match simulate(&Scenario::from_seed(seed)) {
            Ok(report) => total = total.plus(&report),
            Err(failure) => panic!("{failure}\n{:?}", failure.scenario),
        }
    }
    // A simulation in which nothing happens proves nothing.
    println!("{total:?}");
    for (what, count) in [
        ("events", total.events),
        ("outcomes", total.outcomes),
        ("refusals", total.refusals),
        ("conflicts", total.conflicts),
        ("faults", total.faults),
        ("snapshots", total.snapshots),
        ("ignored snapshots", total.ignored),
        ("answers of views", total.views),
        ("events for readers with a name", total.read),
        ("events that were given again", total.read_again),
        ("events that were read back", total.looked_back),
        ("events in older forms", total.older),
        ("events reacted to", total.reacted),
        ("commands of process managers", total.managed),
        ("timers", total.rung),
        ("answers to operators", total.asked),
        ("hints", total.hints),
        ("wrong hints", total.lies),
    ] {
        assert!(count > 500, "{count} {what} in all seeds together");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 77, 1_234] {
        let scenario = Scenario::from_seed(seed);
        assert_eq!(simulate(&scenario), simulate(&scenario));
    }
}

#[test]
fn without_faults_one_engine_with_all_states_at_hand_meets_no_conflict() {
    for seed in 0..200 {
        let (faults, cached_states) = (Faults::default(), 1_000);
        let drawn = Scenario::from_seed(seed);
        let quiet = Scenario { engines: 1, faults, cached_states, ..drawn };
        let report = simulate(&quiet).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(report.conflicts, 0, "seed {seed}: an engine does not race itself");
    }
}

/// An append was under way, and had been applied, when another request heard that the store had
/// been replaced. The engine took the append back without doubt, and told the caller that a command
/// it gave up then was not in the log.
#[test]
fn an_append_under_way_is_in_doubt_when_another_request_finds_the_store_replaced() {
    let drawn = Scenario::from_seed(1_007_054);
    let faults = Faults { damaged: 0, ..drawn.faults };
    let (snapshots, views, reactions, managers, readers) = (None, None, None, None, false);
    let looks_back = false;
    let scenario =
        Scenario { snapshots, views, reactions, managers, readers, looks_back, faults, ..drawn };
    simulate(&scenario).unwrap_or_else(|failure| panic!("{failure}"));
}

/// A timer came due while the answer to the look at timers was on its way, and was handled before an event
/// that had come to the store in between.
#[test]
fn a_timer_that_comes_due_while_it_is_looked_for_waits_for_the_events_before_it() {
    let scenario = Scenario { looks_back: false, ..Scenario::from_seed(4_646) };
    simulate(&scenario).unwrap_or_else(|failure| panic!("{failure}"));
}

/// A look at timers that went on behind its first page took itself for one from the beginning: a timer that
/// had been set meanwhile, for a time before that, was not found before something else was saved.
#[test]
fn a_timer_is_found_that_is_set_for_a_time_before_the_place_where_a_look_is() {
    simulate(&Scenario::from_seed(16_369)).unwrap_or_else(|failure| panic!("{failure}"));
}

/// A reaction changed hands and came back, to before where it had been, while the log was being read from
/// there. The late answer was taken for that of the reading that began then, and what is between was passed.
#[test]
fn a_page_that_was_asked_for_before_the_reaction_was_lost_is_not_taken_in_when_it_is_back() {
    let (reactions, managers) = (Some(StartAt::Beginning), Some(StartAt::Beginning));
    let (operators, hints, engines, overtakers) = (true, Some(100), 3, 0);
    let (views, readers, looks_back) = (None, false, false);
    let scenario = Scenario {
        reactions,
        managers,
        operators,
        hints,
        engines,
        overtakers,
        views,
        readers,
        looks_back,
        ..Scenario::from_seed(17_637)
    };
    simulate(&scenario).unwrap_or_else(|failure| panic!("{failure}"));
}

/// A timer had failed, and was dropped before that was saved: the save that was to remove it wrote it once
/// more, as one that waits for its next attempt, which nobody would make.
#[test]
fn a_timer_that_is_dropped_before_its_failure_is_saved_is_gone() {
    simulate(&Scenario::from_seed(6_098_043)).unwrap_or_else(|failure| panic!("{failure}"));
}

/// The first seed that finds the defect: a broken promise, or an assertion of the engine's own.
fn found(mutation: Mutation) -> Option<u64> {
    (0..2_000).find(|seed| {
        let scenario = Scenario { mutation: Some(mutation), ..Scenario::from_seed(*seed) };
        std::panic::catch_unwind(|| simulate(&scenario)).map_or(true, |result| result.is_err())
    })
}

#[test]
fn a_refusal_from_stale_state_is_found() {
    assert!(found(Mutation::StaleRefusal).is_some());
}

#[test]
fn a_retry_without_the_conflict_check_is_found() {
    assert!(found(Mutation::RetryUnchecked).is_some());
}

#[test]
fn what_a_batch_neighbour_would_have_left_kept_after_its_conflict_is_found() {
    assert!(found(Mutation::KeptAfterConflict).is_some());
}

#[test]
fn a_duplicate_judged_before_its_batch_neighbour_is_found() {
    assert!(found(Mutation::DuplicateBeforeNeighbour).is_some());
}

#[test]
fn a_late_answer_taken_for_the_current_one_is_found() {
    assert!(found(Mutation::LateAnswer).is_some());
}

#[test]
fn a_snapshot_that_defaults_is_found() {
    assert!(found(Mutation::SnapshotDefaulting).is_some());
}

#[test]
fn a_snapshot_whose_digest_nobody_looks_at_is_found() {
    assert!(found(Mutation::SnapshotUnchecked).is_some());
}

#[test]
fn a_checkpoint_saved_before_its_view_is_found() {
    assert!(found(Mutation::CheckpointFirst).is_some());
}

#[test]
fn a_view_that_is_given_up_at_a_position_where_others_may_be_is_found() {
    let of = |seed| Scenario {
        engines: 3,
        views: Some(ViewKind::Async),
        operators: true,
        mutation: Some(Mutation::CancelledAtPosition),
        ..Scenario::from_seed(seed)
    };
    assert!((0..2_000).any(|seed| simulate(&of(seed)).is_err()));
}

#[test]
fn a_gap_at_the_seam_of_a_subscription_is_found() {
    assert!(found(Mutation::GapAtSeam).is_some());
}

#[test]
fn a_decision_on_events_of_others_as_they_are_stored_is_found() {
    assert!(found(Mutation::OthersAsStored).is_some());
}

#[test]
fn a_lease_without_fencing_is_found() {
    assert!(found(Mutation::LeaseWithoutFencing).is_some());
}

#[test]
fn a_hint_that_is_taken_for_a_proof_is_found() {
    assert!(found(Mutation::HintAsProof).is_some());
}

#[test]
fn progress_that_passes_what_is_parked_is_found() {
    assert!(found(Mutation::ProgressPastParked).is_some());
}

#[test]
fn a_state_saved_before_the_progress_is_found() {
    assert!(found(Mutation::StateBeforeProgress).is_some());
}

#[test]
fn a_timer_taken_away_before_it_is_handled_is_found() {
    assert!(found(Mutation::TimerGoneEarly).is_some());
}

#[test]
fn a_timer_handled_before_its_time_is_found() {
    assert!(found(Mutation::TimerBeforeItsTime).is_some());
}

#[test]
fn a_timer_handled_after_it_was_forgotten_is_found() {
    assert!(found(Mutation::ForgottenTimer).is_some());
}

#[test]
fn a_timer_that_overtakes_events_of_before_its_time_is_found() {
    assert!(found(Mutation::TimerOvertakes).is_some());
}

#[test]
fn what_is_tried_again_after_it_was_parked_is_found() {
    assert!(found(Mutation::TriedAfterParked).is_some());
}

#[test]
fn what_is_tried_again_without_a_pause_is_found() {
    assert!(found(Mutation::RetryWithoutPause).is_some());
}

#[test]
fn what_is_to_be_dropped_and_is_tried_again_is_found() {
    assert!(found(Mutation::DropForgotten).is_some());
}

#[test]
fn commands_with_new_ids_for_each_attempt_are_found() {
    assert!(found(Mutation::CommandsNotNamed).is_some());
}

/// As `found`, where what the defect needs is more frequent.
fn found_in(mutation: Mutation, scenario: impl Fn(Scenario) -> Scenario) -> Option<u64> {
    (0..2_000).find(|seed| {
        let drawn = Scenario { mutation: Some(mutation), ..Scenario::from_seed(*seed) };
        simulate(&scenario(drawn)).is_err()
    })
}

#[test]
fn an_append_under_way_that_is_not_in_doubt_when_the_store_was_replaced_is_found() {
    let found = found_in(Mutation::DoubtOnlyOnRefused, |drawn| {
        let faults = Faults { restored: 15, delayed: 80, lost_after: 80, ..Faults::default() };
        let (snapshots, views, reactions, managers, readers) = (None, None, None, None, false);
        Scenario { snapshots, views, reactions, managers, readers, engines: 3, faults, ..drawn }
    });
    assert!(found.is_some());
}

#[test]
fn a_timer_that_is_handled_though_it_came_due_while_it_was_looked_for_is_found() {
    let found = found_in(Mutation::TimerDueWhileLooking, |drawn| {
        let (views, reactions, managers) = (None, None, Some(StartAt::Beginning));
        let (engines, operations, overtakers, faults) = (1, 60, 0, Faults::default());
        Scenario { views, reactions, managers, engines, operations, overtakers, faults, ..drawn }
    });
    assert!(found.is_some());
}

#[test]
fn hints_that_are_believed_for_ever_by_two_who_take_from_each_other_are_found() {
    let found = found_in(Mutation::HintsWithoutEnd, |drawn| {
        let (reactions, engines, hints) = (Some(StartAt::Beginning), 3, Some(100));
        Scenario { reactions, engines, hints, ..drawn }
    });
    assert!(found.is_some());
}

fn with_overtakers(seed: u64, mutation: Option<Mutation>) -> Scenario {
    let (faults, engines, overtakers) = (Faults::default(), 1, 40);
    Scenario { faults, engines, overtakers, mutation, ..Scenario::from_seed(seed) }
}

#[test]
fn no_command_is_overtaken_for_ever() {
    for seed in 0..200 {
        simulate(&with_overtakers(seed, None)).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn overtaking_without_end_is_found() {
    let starves = |seed| {
        let scenario = with_overtakers(seed, Some(Mutation::OvertakingWithoutEnd));
        simulate(&scenario).is_err_and(|failure| failure.what == "a command was overtaken 40 times")
    };
    assert!((0..100).any(starves));
}
