use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limit() -> StoredLimit {
    StoredLimit::new("rate:x", ObjectId::from_bytes([0; 12]))
}

fn at(millisecond: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millisecond).unwrap()
}

/// The largest number of starts in a window of one second, wherever it begins.
fn most_in_a_window(starts: &mut [Timestamp]) -> usize {
    starts.sort_unstable();
    let in_window = |first: &Timestamp| {
        let end = later(*first, SECOND);
        starts
            .iter()
            .filter(|start| **start >= *first && **start < end)
            .count()
    };
    starts.iter().map(in_window).max().unwrap_or(0)
}

#[test]
fn no_window_has_more_starts_than_the_rate_and_nearly_all_are_used() {
    let rate = Rate {
        max: 200,
        per: SECOND,
    };
    let mut limit = limit();
    let mut starts = Vec::new();
    // Claims come at odd times, for odd numbers of jobs.
    let mut now = 0;
    for step in 0_i64.. {
        now += 1 + (step * 7919) % 23;
        if now > 20_000 {
            break;
        }
        let wanted = usize::try_from(1 + (step * 104_729) % 40).unwrap();
        starts.extend(limit.book(rate, at(now), wanted, true));
        let document = limit.to_document();
        assert_eq!(
            StoredLimit::from_document(&document),
            limit,
            "as it was stored"
        );
        assert!(document.to_vec().unwrap().len() < 16_000, "it stays small");
    }
    let used = starts.len();
    assert!(most_in_a_window(&mut starts) <= 200);
    assert!(used >= 200 * 20 * 95 / 100, "{used} of 4000");
}

#[test]
fn starts_are_booked_ahead_of_their_time() {
    let rate = Rate {
        max: 3,
        per: SECOND,
    };
    let mut limit = limit();
    let lead = rate.least_lead();
    assert_eq!(limit.book(rate, at(0), 5, true), [later(at(0), lead); 3]);
    assert_eq!(limit.book(rate, at(500), 1, true), []);
    let next = limit.next_free(at(500)).unwrap();
    assert_eq!(limit.free(next), 3);
    let ahead = limit.book(rate, next, 1, true);
    assert_eq!(
        ahead,
        [later(next, lead * AHEAD)],
        "no earlier than its place is over"
    );
    assert_eq!(limit.book(rate, later(next, SECOND), 1, false).len(), 1);
}

#[test]
fn the_lead_grows_when_jobs_are_late_and_becomes_shorter_again() {
    let rate = Rate {
        max: 100,
        per: SECOND,
    };
    let mut limit = limit();
    let late = Duration::from_millis(50);
    limit.note_late(rate, at(-200), late, at(0));
    limit.note_late(rate, at(-100), late, at(0));
    let start = limit.book(rate, at(0), 1, true)[0];
    assert!(start > at(50), "{start}");
    let both = rate.least_lead() + late * 2;
    assert!(
        start < later(at(0), both),
        "{start}: late for the same reason"
    );
    limit.note_late(rate, at(300), late, at(400));
    assert!(limit.lead > late * 2, "it does not suffice either");
    limit.note_late(rate, at(10_000), SECOND * 9, at(20_000));
    assert!(limit.lead <= rate.most_lead());
    for _ in 0..SHRINKS {
        limit.book(rate, at(0), 0, true);
    }
    assert_eq!(limit.lead, rate.least_lead());
}

#[test]
fn what_is_given_back_can_be_used_again() {
    let rate = Rate {
        max: 2,
        per: SECOND,
    };
    let mut limit = limit();
    let starts = limit.book(rate, at(0), 2, true);
    assert_eq!(limit.free(at(1)), 0);
    limit.give_back(rate, &starts);
    assert_eq!(limit.free(at(1)), 2);
}

#[test]
fn a_place_that_is_given_back_is_free_no_sooner_than_the_start_before_it_is_over() {
    let rate = Rate {
        max: 5,
        per: SECOND,
    };
    let mut limit = limit();
    let mut starts = limit.book(rate, at(0), 5, true);
    for _ in 0..5 {
        let next = limit.next_free(starts[0]).unwrap();
        let ahead = limit.book(rate, next, 5, true);
        limit.give_back(rate, &ahead);
        starts.extend(limit.book(rate, next, 5, true));
        assert_eq!(most_in_a_window(&mut starts), 5, "{starts:?}");
        starts = starts.split_off(starts.len() - 5);
    }
}

#[test]
fn a_start_that_is_booked_for_a_time_leaves_other_places_as_they_are() {
    let rate = Rate {
        max: 4,
        per: SECOND,
    };
    let mut limit = limit();
    let mut starts = Vec::new();
    for (now, wanted) in [(-300, 1), (-100, 1), (0, 2)] {
        starts.extend(limit.book(rate, at(now), wanted, true));
    }
    assert!(
        !limit.book_at(rate, at(500)),
        "all places are taken until then"
    );
    // One is over by then, another one a while after this moment.
    assert!(limit.book_at(rate, at(1050)));
    starts.push(at(1050));
    for now in [600, 700, 800, 950, 1000, 1100] {
        starts.extend(limit.book(rate, at(now), 4, true));
        assert!(most_in_a_window(&mut starts) <= 4, "{starts:?}");
    }
    assert_eq!(starts.len(), 8);
}

#[test]
fn who_begins_late_takes_its_place_for_longer() {
    let rate = Rate {
        max: 1,
        per: SECOND,
    };
    let mut limit = limit();
    let booked = limit.book(rate, at(0), 1, true)[0];
    assert!(limit.move_start(rate, booked, at(700)));
    assert_eq!(limit.book(rate, at(1200), 1, true), []);
    assert!(
        !limit.move_start(rate, booked, at(1300)),
        "its place is not there any more"
    );
}

#[test]
fn an_operator_has_the_last_word() {
    let rate = Rate {
        max: 10,
        per: SECOND,
    };
    let mut limit = limit();
    limit.max = Some(1);
    assert_eq!(limit.book(rate, at(0), 5, true).len(), 1);
    limit.max = Some(4);
    assert_eq!(limit.book(rate, at(1), 5, true).len(), 3);
    limit.max = Some(0);
    assert_eq!(limit.book(rate, at(2), 50, true).len(), 50, "0 is no limit");
    assert_eq!(limit.most(7), u32::MAX);
}

#[test]
fn it_is_forgotten_only_when_it_says_nothing() {
    let rate = Rate {
        max: 1,
        per: SECOND,
    };
    let mut limit = limit();
    limit.book(rate, at(0), 1, true);
    assert!(limit.expires_at().unwrap() > at(60_000));
    limit.wait(at(1), None);
    assert_eq!(limit.expires_at(), None);
    limit.next = None;
    limit.max = Some(3);
    assert_eq!(limit.expires_at(), None);
}
