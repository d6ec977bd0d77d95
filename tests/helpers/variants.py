"""Variants of tests that `make long` runs and the default suite does not.

The suite must end in twelve minutes on two cores. It keeps another variant of each of these tests, and these take
seconds of compilation. A test that is left out as a whole is marked where it is defined.
"""

from collections.abc import Mapping

LEFT_TO_LONG: Mapping[str, Mapping[str, str]] = {
    "test_calibration.py": {
        "test_the_kl_of_a_discrete_policy_to_the_uniform_prior_is_charged_in_full": r"logits0",
    },
    "test_checkpoint.py": {
        "test_a_failure_at_every_operation_of_a_save_is_told_and_loses_nothing": r"13|28",
    },
    "test_compose.py": {
        "test_a_combination_that_is_taken_traces_an_update": (
            r".*(autoregressive|full-gaussian)-semi-amortised|"
            r".*mixture-(iterative|semi-amortised)|.*-(gradient|iterative)"
        ),
        "test_an_optimiser_starts_where_it_is_told_and_a_network_there_learns": (
            r"(gradient|cem)-iterative|"
            r".*-prior|importance-iterative"
        ),
        "test_plans_act_for_any_policy_that_a_network_or_the_prior_is": r"as smcp|mixture|prior",
        "test_what_inference_maximises_goes_with_the_parts": r"gradient",
    },
    "test_contracts.py": {
        "test_a_row_acts": r"distral|default-policy|soft-pg|rerpi|mpo-parametric|hierarchical|mpo|iterative-sac|sql",
        "test_a_row_compiles_once_repeats_itself_and_runs_under_scan_and_vmap": (
            r"iterative-sac|soft-pg|sql|rerpi|mpo-parametric|"
            r"mpo|vmpo|distral|default-policy|hierarchical"
        ),
        "test_distributions": (
            r"EqualMixture|NormalMixture|AutoregressiveNormal|"
            r"FactoredCategorical|TwoLevels|FullNormal"
        ),
        "test_inference": r"\w+-Restarts|FullGaussianNetwork-.*|Flat-.*",
        "test_posteriors": r"FullGaussianNetwork-.*|FixedGaussian-(?!Gaussian).*",
    },
    "test_critics.py": {
        "test_a_histogram_critic_has_finite_gradients_to_the_action": r"0\.0-(mlp|simba)",
    },
    "test_discrete.py": {
        "test_an_update_over_choices_leaves_nothing_to_chance": r"iterative-sac|mpo",
        "test_the_critic_regresses_on_the_exact_backup": r"mpo",
    },
    "test_every_setting.py": {
        "test_valid_settings_start_and_stay_finite": r"compose|mpo|vmpo",
    },
    "test_examples.py": {
        "test_a_part_of_somebodys_trains_and_goes_on_by_consent": r"all parts",
    },
    "test_extremes.py": {
        "test_constant_observations_are_learned_from": r"(0\.0-False|1).*",
    },
    "test_identities.py": {
        "test_an_unsound_update_changes_nothing_and_the_next_sound_one_applies": (
            r"(distral|mpo|soft-pg|sql|default-policy|hierarchical|rerpi|iterative-sac)-.*"
        ),
        "test_each_step_touches_its_own_parameters_alone": r"iterative-sac.*",
    },
    "test_inference_optimisers.py": {
        "test_every_optimiser_reaches_the_optimum": r"restarts.*|.*-full.*",
        "test_no_gradient_reaches_the_problem": r"restarts|sgd|importance",
        "test_semi_amortised_improves_and_trains_the_amortised_part_as_by_itself": r"iterative.*",
    },
    "test_levels.py": {
        "test_the_kls_of_both_levels_are_that_of_the_joint_and_bound_that_of_the_action": r"0",
    },
    "test_maximised.py": {
        "test_a_fraction_of_the_rows_infers_in_every_row_of_the_table": r"mpo|mpo-parametric|rerpi|compose",
    },
    "test_metrics.py": {
        "test_what_an_update_returns_was_found_in_the_source": (
            r"smcp|mve|kl-mve|"
            r"iterative-sac|rerpi|hierarchical|(iterative-mve|pp-smc|distral|default-policy|mpo-parametric|sql).*"
        ),
    },
    "test_mpo.py": {
        "test_the_critic_bootstraps_from_the_slow_policy_and_pays_no_kl": r"parametric",
        "test_slow_copies_are_hard_and_move_together_every_so_often": r"rank|parametric",
        "test_weighing_by_value_rerpi_is_mpo_with_joint_bounds": r".*-td0",
    },
    "test_optimisers.py": {
        "test_every_optimiser_acts_over_every_critic_that_it_fits": (
            r"semi-amortised-from.*|.*(with a direct start|-iterative-sac)|"
            r".*from an iterative start|semi-amortised-sac.*|(cem|importance)-sac"
        ),
    },
    "test_releases.py": {
        "test_it_goes_on": r"0\.1\.0-(mpo|iterative-sac|sac-CartPole).*",
        "test_it_is_inspected": r"0\.1\.0-iterative-sac.*",
    },
    "test_resume.py": {
        "test_the_comparison_sees_the_loss_of_each_group": r"(alpha|bad|its|number|optim|slow|tally|updates).*",
    },
    "test_retry.py": {
        "test_a_run_goes_on": r"1-(step|reset).*",
    },
    "test_run.py": {
        "test_a_fresh_agent_has_no_weak_types": r"(mve|kl-mve|iterative-mve|smcp|mpo).*",
        "test_updates_follow_the_ratio_less_an_unfilled_block": r"changes[13579]-.*",
    },
    "test_several_choices.py": {
        "test_a_row_that_takes_them_learns": r"(mpo|soft-pg|vmpo).*",
    },
    "test_several_tasks.py": {
        "test_another_list_is_refused": r"given1",
    },
    "test_smc.py": {
        "test_a_weight_is_the_ratio_of_the_optimal_policy_to_the_proposal": r"deterministic.*",
        "test_the_evidence_is_one_on_average_and_the_roots_are_those_of_the_optimal_policy": (
            r"(stochastic|terminating)-every"
        ),
    },
    "test_visited.py": {
        "test_the_e_step_is_the_pointwise_loss_of_the_actions_taken": r"policy_gradient",
    },
}
"""By file and test: the ids of the variants, as a regular expression of the whole id."""
