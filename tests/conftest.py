"""Strict arithmetic for the whole suite: no silent broadcasting, no silent promotion; compiled programs are kept."""

import gc
import os
import re
import tempfile
from importlib import metadata

# Child processes and the workers of pytest-xdist inherit these.
# One thread a process: there is a worker for each core, and sums are then the same from run to run.
# No costly passes of LLVM and no fusion emitters: most of the suite's time is compilation, which they double. They do
# not change the arithmetic. A JAX that does not know a flag ends the process, so that one is for the tested version.
FLAGS = "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if metadata.version("jaxlib").startswith("0.10."):
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", FLAGS)
CACHE = os.environ.setdefault("ESTEP_TEST_CACHE", tempfile.mkdtemp(prefix="estep-tests-"))
os.environ.setdefault("ESTEP_CACHE_DIR", CACHE)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", CACHE + "/jax")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import shutil

import jax
import pytest

# Thousands of compiled programs are kept: a collection looks through all of them, and at the default one comes after
# every 700 objects.
gc.set_threshold(100_000, 20, 20)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


# Tests of which the suite keeps another variant or a neighbour, and which take seconds of compilation: the suite must
# end in twelve minutes on two cores. `make long` has them all.
REPEATED = re.compile(
    "|".join(
        [
            r"test_contracts\.py::test_a_row_compiles_once\w+\[(soft-pg|sql|rerpi|mpo-parametric|mpo|vmpo|distral|default-policy|hierarchical)\]",
            r"test_contracts\.py::test_inference\[\w+-Restarts\]",
            r"test_examples\.py::test_it_evaluates_is_inspected_and_acts",
            r"test_examples\.py::test_a_part_of_somebodys\w+\[all parts\]",
            r"test_processes\.py::test_a_finished_run_goes_on_with_more_steps",
            r"test_maximised\.py::test_(slow_and_fast_are|the_slow_copy_moves|the_pessimism_of_acting)",
            r"test_maximised\.py::test_what_inference_maximises\w+\[\{'(infer_on|pessimism)'",
            r"test_mpo\.py::test_(the_fresh_policy_is_as_wide|the_policy_climbs)\w+\[(mpo|parametric|coupled)\]",
            r"test_mpo\.py::test_each_step_touches_its_own_parameters_alone\[parametric\]",
            r"test_mpo\.py::test_slow_copies_are_hard\w+\[rank\]",
            r"test_every_setting\.py::test_valid_settings_start\w+\[compose\]",
            r"test_optimisers\.py::test_a_better_optimiser_finds",
            r"test_optimisers\.py::test_every_optimiser_acts\w+\[semi-amortised-from",
            r"test_optimisers\.py::test_every_optimiser_acts\w+\[.*(with a direct start|-iterative-sac)\]",
            r"test_compose\.py::test_plans_act_for_any\w+\[(as smcp|mixture|prior)\]",
            r"test_compose\.py::test_a_combination_that_is_taken\w+\[.*(autoregressive|full-gaussian)-semi-amortised\]",
            r"test_compose\.py::test_what_inference_maximises\w+\[gradient\]",
            r"test_sinks\.py::test_a_terminal_that_nobody_reads",
            r"test_early_end\.py::test_an_evaluation_that_was_interrupted",
            r"test_levels\.py::test_the_next_state_is_charged",
            r"test_contracts\.py::test_distributions\[(EqualMixture|NormalMixture|AutoregressiveNormal)\]",
            r"test_contracts\.py::test_distributions\[(FactoredCategorical|TwoLevels|FullNormal)\]",
            r"test_optimisers\.py::test_every_optimiser_acts\w+\[.*from an iterative start\]",
            r"test_compose\.py::test_an_optimiser_starts_where\w+\[(gradient|cem)-iterative\]",
            r"test_compose\.py::test_a_combination_that_is_taken\w+\[.*mixture-(iterative|semi-amortised)\]",
            r"test_retry\.py::test_a_run_goes_on\[1-step",
            r"test_model_based\.py::test_a_prediction_that_is_not_finite_skips",
            r"test_optimisers\.py::test_every_optimiser_acts\w+\[semi-amortised-sac",
            r"test_discrete\.py::test_the_critic_regresses\w+\[mpo\]",
            r"test_chain\.py::test_the_target_values_the_posterior",
            r"test_calibration\.py::test_the_kl_of_a_discrete_policy_to_the_uniform\w+\[logits0\]",
            r"test_policy\.py::test_inspect_(measures_beyond|says_what)",
            r"test_identities\.py::test_an_unsound_update\w+\[default-policy",
            r"test_identities_iterative\.py::test_the_gradient_is_the_mean_of",
            r"test_identities_iterative\.py::test_one_iteration_that_sees_only",
            r"test_visited\.py::test_(repeated_steps_on_a_bandit|at_the_optimum_of_the_dual)",
            r"test_targets\.py::test_(on_its_own_data|replay_remembers)",
            r"test_compared\.py::test_the_way_of_iterative\w+\[True\]",
            r"test_inference_optimisers\.py::test_every_optimiser_reaches_the_optimum\[restarts",
            r"test_inference_optimisers\.py::test_an_optimiser_starts_where_it_is_told\[gradient\]",
            r"test_several_choices\.py::test_a_row_that_takes_them_learns\[(mpo|soft-pg)",
            r"test_sql\.py::test_(four_goals|both_modes|a_critic_that_says_nothing)",
            r"test_discrete\.py::test_an_update_over_choices\w+\[iterative-sac\]",
            r"test_compare\.py::test_runs_are_added_to",
            r"test_compared\.py::test_the_way_of_iterative\w+\[False\]",
            r"test_oracles\.py::test_direct_inference_reaches_the_best",
            r"test_releases\.py::test_it_goes_on\[0\.1\.0-mpo",
            r"test_targets\.py::test_ratios_cut",
            r"test_model_based\.py::test_(an_update_is_compiled_once|an_agent_is_measured_on|returns_of_n_steps_of_the_true)",
            r"test_model_based\.py::test_members_take_turns",
            r"test_smc\.py::test_(luck_that_all_particles_share|kl_is_of_roots)",
            r"test_smc\.py::test_the_evidence_is_one\w+\[(stochastic|terminating)-every\]",
            r"test_plans\.py::test_(an_update_fits_the_prior|acting_compiles_once)",
            r"test_metrics\.py::test_what_an_update_returns\w+\[(smcp|mve|kl-mve|iterative-sac|rerpi|hierarchical)\]",
            r"test_contracts\.py::test_a_row_compiles_once\w+\[sac\]",
            r"test_mpo\.py::test_an_unsound_update_changes_nothing",
            r"test_identities_iterative\.py::test_states_are_inferred_alone",
            r"test_several_choices\.py::test_samples_have_the_gradient",
            r"test_chain\.py::test_states_start_afresh",
            r"test_sql\.py::test_the_exponential_of_the_soft_value\w+\[sampler",
            r"test_sql\.py::test_the_published_form",
            r"test_oracles\.py::test_uniform_for_flat_shifts",
            r"test_compared\.py::test_optimisers_climb_over",
            r"test_releases\.py::test_it_is_inspected\[0\.1\.0-iterative-sac",
            r"test_processes\.py::test_(sigterm_stops_a_run|a_hung_environment_ends|a_command_that_reads_is_ended)",
            r"test_policy\.py::test_a_policy_is_pickled",
            r"test_model_based\.py::test_targets_have_no_imagined",
            r"test_releases\.py::test_it_goes_on\[0\.1\.0-sac-CartPole",
            r"test_identities_iterative\.py::test_(inference_may_run_longer|a_direct_start_is_trained)",
            r"test_mpo\.py::test_(rank_weights_follow|each_step_touches_its_own|the_fresh_policy_is_as_wide)",
            r"test_mpo\.py::test_slow_copies_are_hard\w+\[parametric\]",
            r"test_visited\.py::test_the_e_step_is_the_pointwise\w+\[policy_gradient\]",
            r"test_discrete\.py::test_an_update_over_choices\w+\[mpo\]",
            r"test_sql\.py::test_free_particles_reach",
            r"test_inference_optimisers\.py::test_the_e_step_trains_what",
            r"test_inference_optimisers\.py::test_an_optimiser_starts_where_it_is_told\[cem",
            r"test_oracles\.py::test_a_ring_ends_where\w+\[terminated",
            r"test_duals\.py::test_good_actions_off_the_mean",
            r"test_realised\.py::test_more_particles\w+\[sql",
            r"test_several_choices\.py::test_a_row_that_takes_them_learns\[vmpo",
            r"test_identities\.py::test_an_unsound_update\w+\[(distral|mpo|soft-pg|sql|default-policy|hierarchical|rerpi)-",
            r"test_identities\.py::test_each_step_touches\w+\[iterative-sac-critic",
            r"test_checkpoint\.py::test_sigkill_at_any_time",
            r"test_model_based\.py::test_inference_moves_its_own",
            r"test_sql\.py::test_the_exponential_of_the_soft_value\w+\[uniform",
            r"test_realised\.py::test_the_figure_is_the_same",
            r"test_identities_iterative\.py::test_the_result_may_be_the_mean",
            r"test_inference_optimisers\.py::test_an_optimiser_starts_where_it_is_told\[importance",
            r"test_smc\.py::test_a_weight_is_the_ratio\w+\[deterministic",
            r"test_cartpole\.py::test_a_run_on_cartpole_goes_on",
            r"test_visited\.py::test_values_are_fitted",
            r"test_run\.py::test_a_run_leaves_a_complete_folder\[iterative-sac",
            r"test_run\.py::test_a_fresh_agent_has_no_weak_types\[(mve|kl-mve|iterative-mve|smcp|mpo)",
            r"test_model_based\.py::test_another_optimiser_follows_the_policy",
            r"test_levels\.py::test_within_a_sequence_the_e_step",
            r"test_levels\.py::test_the_kls_of_both_levels\w+\[0\]",
            r"test_inference_optimisers\.py::test_every_optimiser_reaches_the_optimum\[.*-full",
            r"test_inference_optimisers\.py::test_an_optimiser_starts_where_it_is_told\[iterative",
            r"test_inference_optimisers\.py::test_semi_amortised_improves\w+\[iterative",
            r"test_contracts\.py::test_(inference|posteriors)\[FullGaussianNetwork-",
            r"test_contracts\.py::test_a_row_acts\[(distral|default-policy|soft-pg|rerpi|mpo-parametric|hierarchical|mpo)\]",
            r"test_metrics\.py::test_what_an_update_returns\w+\[(iterative-mve|pp-smc|distral|default-policy|mpo-parametric|sql)",
            r"test_identities\.py::test_each_step_touches\w+\[iterative-sac",
            r"test_duals\.py::test_the_full_covariance_has_its_closed_form",
            r"test_dict_policy\.py::test_one_discrete_action",
            r"test_extremes\.py::test_constant_observations\w+\[(0\.0-False|1)",
            r"test_every_setting\.py::test_valid_settings_start\w+\[(mpo|vmpo)\]",
            r"test_realised\.py::test_more_particles\w+\[mpo",
            r"test_oracles\.py::test_a_ring_ends_where",
            r"test_visited\.py::test_a_rollout_is_learned_from_as_often",
            r"test_sql\.py::test_the_score_is_over_the_point",
            r"test_numerics\.py::test_(direct_inference_gives_a_bounded|the_density_of_an_own_draw)",
            r"test_discrete\.py::test_rows_say_what",
            r"test_limits\.py::test_multipliers_within_their_limits",
            r"test_mpo\.py::test_the_prior_of_the_parametric_form",
            r"test_mpo\.py::test_weighing_by_value_rerpi\w+\[.*-td0\]",
            r"test_resume\.py::test_the_comparison_sees_the_loss_of_each_group\[(alpha|bad|its|number|optim|slow|tally|updates)",
            r"test_run\.py::test_updates_follow_the_ratio\w+\[changes[13579]-",
            r"test_checkpoint\.py::test_a_failure_at_every_operation\w+\[(13|28)\]",
            r"test_compose\.py::test_a_combination_that_is_taken\w+\[.*-(gradient|iterative)\]",
            r"test_compose\.py::test_an_optimiser_starts_where\w+\[.*-prior\]",
            r"test_compose\.py::test_an_optimiser_starts_where\w+\[importance-iterative\]",
            r"test_critics\.py::test_a_histogram_critic_has_finite\w+\[0\.0-(mlp|simba)\]",
            r"test_inference_optimisers\.py::test_no_gradient_reaches\w+\[(restarts|sgd|importance)\]",
            r"test_maximised\.py::test_a_fraction_of_the_rows\w+\[(mpo|mpo-parametric|rerpi|compose)\]",
            r"test_optimisers\.py::test_every_optimiser_acts\w+\[(cem|importance)-sac\]",
            r"test_contracts\.py::test_inference\[Flat-",
        ]
    )
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave repeated tests to `make long`."""
    for item in items:
        if REPEATED.search(item.nodeid):
            item.add_marker(pytest.mark.long)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the cache, in the process that made it."""
    if not hasattr(session.config, "workerinput"):
        shutil.rmtree(CACHE, ignore_errors=True)
