//! The list of all promises, and the macro that makes tests of them.

/// Makes a test of every promise of the storage traits, for the store that a [`Harness`] opens.
///
/// The tests stand in modules named after the methods, such as
/// `claim::takes_at_most_the_count`, each with a runtime of its own, and may run in parallel.
///
/// [`Harness`]: crate::Harness
#[macro_export]
macro_rules! conformance {
    ($harness:ty) => {
        $crate::__promises! {
            $harness;
            insert:
                says_what_became_of_each_job_in_order
                of_nothing_does_nothing
                keeps_the_whole_document
                leaves_a_job_that_exists_as_it_is
                repeated_after_a_claim_does_not_queue_again
                lets_one_of_many_with_the_same_key_win
                frees_a_unique_key_outside_queued_and_running
                frees_an_unfinished_key_at_the_end
                tells_different_keys_apart
                frees_the_key_of_a_deleted_job
                frees_the_key_of_a_job_that_the_original_aborted;
            claim:
                prefers_the_better_priority_and_then_the_older_job
                takes_at_most_the_count
                takes_nothing_when_asked_for_none
                counts_a_kind_once_that_is_named_twice
                takes_nothing_without_kinds
                takes_only_the_kinds_that_the_server_knows
                keeps_the_order_over_201_kinds
                keeps_the_order_over_500_kinds
                takes_only_what_matches_the_filter
                finds_a_match_behind_many_others
                never_starts_a_job_before_its_time
                never_takes_a_marked_job_that_is_not_queued
                never_takes_a_queued_job_that_is_not_ready
                writes_state_token_worker_and_time
                removes_a_hold_that_was_left_standing
                gives_the_jobs_to_the_workers_in_turn
                leaves_the_head_to_other_servers
                lets_no_claim_lag_behind_what_was_left_to_others
                takes_the_head_when_nothing_lies_behind_it
                never_gives_one_job_to_two_claimers
                joins_running_batches_without_writing
                sets_undecodable_documents_aside
                gets_past_any_number_of_undecodable_documents
                tells_when_the_next_job_falls_due
                tells_no_due_time_when_it_found_enough;
            limit:
                holds_jobs_without_a_free_place
                gives_each_job_its_own_places
                takes_all_places_of_a_job_or_none
                of_none_lets_none_run
                keeps_keys_apart
                gives_no_place_twice_by_a_change
                frees_the_place_of_a_settled_job
                frees_the_place_of_a_deleted_job
                frees_the_place_of_a_job_that_the_original_stopped
                takes_no_place_for_a_job_without_limits
                is_never_exceeded_even_for_a_moment;
            stored_limit:
                is_replaced_only_by_who_knows_it
                falls_due
                knows_whether_a_kind_runs
                lets_no_more_start_than_the_rate_says
                shares_a_rate_among_claimers
                waits_for_another_kind
                puts_off_what_may_not_start_yet
                goes_by_the_number_that_was_set
                fails_a_job_whose_limits_cannot_be_told
                books_no_start_that_nobody_can_use;
            settle:
                writes_the_outcome_of_the_claim_holder
                refuses_in_another_state
                refuses_under_another_token
                refuses_for_another_worker
                refuses_when_a_further_condition_fails
                accepts_the_same_outcome_again
                refuses_an_outcome_whose_job_was_claimed_again
                accepts_a_repeated_retry_whose_job_was_claimed_again
                refuses_an_outcome_that_another_claim_reached
                refuses_a_job_that_is_gone
                sets_removes_and_counts_up
                judges_each_patch_of_a_group_by_itself
                judges_transitions_without_a_claim
                takes_a_large_group
                of_nothing_does_nothing
                refuses_to_take_a_key_in_use
                makes_one_of_many_concurrent_changes;
            fence:
                holds_when_the_job_was_aborted
                holds_when_the_original_aborted_the_job
                holds_when_the_job_was_paused
                holds_when_the_original_paused_the_job
                holds_when_the_job_was_requeued
                holds_when_the_original_requeued_the_job
                holds_when_another_server_took_the_job_over
                holds_when_another_server_completed_the_job
                holds_when_the_same_worker_has_the_job_again
                holds_when_the_original_took_the_job_over
                holds_when_the_job_was_failed
                holds_when_the_job_was_failed_and_retried
                holds_when_the_job_was_deleted;
            update:
                returns_the_job_after_the_change
                returns_a_deleted_job_as_it_was
                is_guarded_by_the_state
                is_guarded_by_a_further_condition
                is_guarded_by_the_claim
                does_not_find_a_missing_job
                refuses_to_take_a_key_in_use
                lets_a_job_keep_its_own_key
                loses_no_concurrent_change
                decides_what_can_be_claimed;
            update_and_insert:
                changes_a_job_and_adds_others
                deletes_a_job_and_adds_others
                adds_nothing_when_the_change_is_refused
                leaves_out_what_exists
                does_either_alone
                is_done_by_one_of_many;
            promote:
                makes_due_jobs_ready
                makes_a_job_ready_whose_time_was_cleared
                sees_a_time_that_the_original_moved
                adopts_jobs_of_the_original
                adopts_a_job_that_the_original_requeued
                leaves_all_other_jobs_alone
                touches_at_most_the_limit
                may_be_done_by_many_at_once;
            release:
                makes_the_first_held_jobs_ready
                says_how_many_it_released
                releases_all_when_asked_for_more_than_there_are
                leaves_other_holds_alone
                goes_from_one_reason_to_the_next
                releases_only_queued_jobs
                counts_each_job_once;
            claims_of:
                finds_the_claims_of_one_server
                finds_running_jobs_only
                goes_on_behind_the_last_page
                tells_servers_apart_whose_ids_begin_alike;
            next_claim:
                goes_from_server_to_server
                goes_from_claim_to_claim_of_one_server
                finds_running_jobs_only
                sees_tokens_that_are_not_ours
                gets_past_any_number_of_undecodable_documents;
            next_kind:
                goes_from_kind_to_kind
                sees_ready_jobs_only;
            find:
                gets_a_job_by_its_id
                lists_jobs_in_the_order_of_arrival
                lists_at_most_the_limit
                pages_by_id
                pages_by_priority
                pages_by_created_at
                pages_by_started_at
                pages_by_completed_at
                pages_by_run_at
                leaves_undecodable_documents_out;
            filter:
                finds_what_is_equal
                finds_what_differs
                finds_what_is_in_a_list
                finds_what_lies_in_a_range
                finds_what_exists
                finds_what_begins_with_a_text
                finds_what_contains_a_text
                finds_the_opposite
                joins_conditions
                reaches_the_envelope;
            count:
                counts_what_matches
                counts_by_state
                may_be_read_from_anywhere;
            delete:
                removes_what_matches
                never_removes_running_jobs
                removes_undecodable_documents
                removes_many;
            time:
                is_told_in_whole_milliseconds
                is_the_same_for_all_handles
                mints_increasing_ids
                mints_other_ids_through_another_handle
                has_an_address
                tells_when_the_next_job_falls_due
                a_job_without_a_time_is_due_now;
            bell:
                wakes_who_waits_for_work
                remembers_that_work_became_ready
                tells_what_other_handles_make_ready
                tells_what_other_handles_schedule;
            server:
                keeps_the_whole_document
                refuses_a_name_that_is_taken
                lets_one_of_many_with_the_same_name_win
                may_be_registered_again_by_the_same_call
                counts_heartbeats
                tells_a_dead_server_that_it_is_dead
                brings_changes_with_the_heartbeat
                changes_the_state_only_from_those_named
                says_whether_the_server_exists
                lists_servers_in_the_order_of_their_ids
                leaves_the_claims_of_a_removed_server
                goes_when_its_heartbeat_stands_still
                stays_when_it_has_beaten_meanwhile
                goes_when_it_never_gave_a_sign_of_life
                is_declared_dead_by_one_of_many;
            recover:
                requeues_the_claims_of_a_server_without_a_document
                leaves_the_claims_of_a_live_server
                leaves_the_claims_of_servers_that_arrive_meanwhile
                leaves_jobs_that_the_original_took_over
                leaves_kinds_that_it_does_not_know
                passes_by_claims_that_are_not_ours
                hands_a_suspect_back_that_had_not_begun
                holds_suspects_until_it_is_their_turn
                counts_a_suspect_that_had_begun
                fails_a_job_with_which_too_many_servers_died
                fails_what_must_not_be_performed_twice
                tells_failed_jobs_from_those_that_wait
                ends_each_claim_once
                ends_more_claims_than_a_page_has
                frees_the_places_of_limits;
            inspect:
                finds_nothing_wrong_with_a_new_store
                counts_the_ready_jobs_of_kinds_and_priorities
                counts_what_is_held_and_what_stands_in_a_state
                counts_as_far_as_it_is_asked
                finds_the_first_ready_jobs
                finds_documents_that_cannot_be_read;
            event:
                come_in_the_order_of_publication
                begin_at_the_end
                may_say_next_to_nothing
                may_be_asked_for_in_vain
                reach_another_handle
                are_never_left_out
                wake_who_waits_for_them
                wake_who_waits_on_another_handle
                are_not_mixed_up_with_jobs
                are_found_whatever_became_of_those_before
                are_found_when_there_are_more_than_before;
            model:
                agrees;
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __promises {
    ($harness:ty; $($module:ident: $($promise:ident)+;)+) => {
        $(
            mod $module {
                #[allow(unused_imports, reason = "the harness may be named by its full path")]
                use super::*;

                $(
                    #[test]
                    fn $promise() {
                        $crate::run::<$harness>(
                            concat!(stringify!($module), "::", stringify!($promise)),
                            $crate::conformance::$module::$promise,
                        );
                    }
                )+
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    /// A function that stands in no list would be run by nobody.
    #[test]
    fn every_promise_of_the_suite_is_listed() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let list = fs::read_to_string(source.join("promises.rs")).unwrap();
        let listed: BTreeSet<&str> = list
            .lines()
            .filter(|line| line.starts_with("                "))
            .map(|line| line.trim().trim_end_matches(';'))
            .collect();
        let mut promises = 0;
        for file in fs::read_dir(source.join("conformance")).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                continue;
            }
            for line in fs::read_to_string(&path).unwrap().lines() {
                let Some(rest) = line.strip_prefix("pub async fn ") else {
                    continue;
                };
                let name = rest.split('(').next().unwrap();
                let name = name.split('<').next().unwrap();
                assert!(listed.contains(name), "{name} is not listed");
                promises += 1;
            }
        }
        assert!(promises > 100);
    }
}
