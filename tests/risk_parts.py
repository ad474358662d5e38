"""What the tests of the risk study share: a small study of the tiny cohort."""

from ecgkit.config import RiskConfig
from ecgkit.data.outcomes import open_outcomes
from ecgkit.tasks import risk
from ecgkit.text.reports import embed_reports, stand_in_embedder


def tiny_study(cohort):
    """Simulated follow-up and TF-IDF report vectors of `cohort`, as notebook 07 prepares them."""
    config = RiskConfig.from_params({"preset": "tiny"})
    outcomes = open_outcomes(config, cohort)
    codes = cohort.table["scp_codes"].iloc[outcomes.table["row"]]
    book = embed_reports(codes, cohort.statements, stand_in_embedder(16), "seed")
    return risk.prepare(config, cohort, outcomes, book)
