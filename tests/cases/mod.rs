//! What every client must show, said once and run with each of them.
#![allow(clippy::unwrap_used, unreachable_pub)]

pub mod exec;
pub mod files;
pub mod images;
pub mod lifecycle;
pub mod networks;
pub mod output;
pub mod running;
pub mod terminals;
pub mod upkeep;
pub mod volumes;

/// Makes a test of each case, with one client.
macro_rules! suite {
    ($client:expr; $($area:ident { $($case:ident)* })*) => {$(
        mod $area {
            use super::*;
            $(
                #[test]
                fn $case() {
                    $crate::cases::$area::$case($client);
                }
            )*
        }
    )*};
    ($client:expr) => {
        $crate::cases::suite! { $client;
            running {
                input_goes_through exit_codes failures_before_the_start streams_stay_apart
                environment_directory_user_and_name the_root_file_system_is_the_images limits_hold
                privileges_are_dockers removed_when_asked names_are_unique
            }
            terminals { a_shell detach_and_attach_again }
            upkeep { restarts_and_health bounds_and_use what_a_log_driver_knows another_runtime devices_by_name checkpoints }
            lifecycle {
                from_created_to_gone stop_waits_then_kills kill_and_wait pause_stands_still restart_and_rename
                listing inspecting attaching_twice
            }
            output { logs_are_kept logs_follow_to_the_end long_lines_and_no_newline }
            exec { beside_the_first_process its_exit_codes with_input on_a_terminal only_where_something_runs }
            networks {
                outbound_traffic neighbours none_is_alone made_and_removed several_at_once names_are_looked_up links_on_the_default_bridge
                ports_of_every_form the_host_by_a_name a_shared_one_ends_with_its_owner closed_further
                on_an_interface_of_the_host
            }
            volumes {
                they_outlive_containers filled_from_the_image nameless_ones_go_along host_directories
                every_kind_of_mount
            }
            files { into_and_out_of with_its_options whatever_it_does what_was_changed }
            images {
                every_shape_of_archive names_and_removal pulled_from_a_registry hostile_archives pushed_and_saved
                committed registries_that_want_to_know_who_asks nobody_else_looks_in room_is_made
            }
        }
    };
}
pub(crate) use suite;
