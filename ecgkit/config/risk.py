"""Settings of notebook 07."""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig, setting
from ecgkit.types import ConfigError


@dataclasses.dataclass(frozen=True)
class RiskConfig(KitConfig):
    """Settings of notebook 07: reports, alignment, outcomes, risk."""

    # --- reports and their embedding
    report_style: str = setting(
        "seed (with confidence) | reference (as the published code) | prose",
        "seed",
        choices=("seed", "reference", "prose"),
    )
    zero_policy: str = setting(
        "statements of likelihood 0 ('not given'): drop (published) | keep",
        tiny="keep",
        demo="keep",
        paper="drop",
        choices=("drop", "keep"),
    )
    zero_confidence: float = setting("confidence of kept zero-likelihood statements", 0.5)
    text_encoder: str = setting(
        "'' = small encoder trained in place; stand-in = TF-IDF + SVD; or an encoder by hub id or "
        "folder",
        "",
    )
    text_pooling: str = setting(
        "'' = published for REPORT_STYLE=reference, else mean | published (padding averaged in) | "
        "mean | cls", "", choices=("", "published", "mean", "cls"),
    )  # fmt: skip
    normalise_confidence: bool = setting(
        "divide a report's confidences by their sum (published)", True
    )
    translator: str = setting(
        "of the free-text reports: '' = glossary, word by word | none | endpoint | a MarianMT by "
        "hub id or folder", "",
    )  # fmt: skip

    # --- network
    input_kind: str = setting(
        "beat (median beat of 1.2 s, published) | strip", "beat", choices=("beat", "strip")
    )
    base_features: int = setting("features per lead after the stem; even", demo=2, paper=4)
    code_width: int = setting("width of the code z", tiny=32, demo=128, paper=512)
    n_down: int = setting(
        "halvings of time in the encoder: tokens of 80 ms at 100 Hz with 3", demo=3, paper=5
    )
    head_units: int = setting(
        "units of the risk head; 3 (published) gives everybody whose units are all off one and the "
        "same score",
        tiny=16,
        demo=16,
        paper=3,
    )
    head_reads: str = setting(
        "what the risk head reads: code (z, published) | aligned (z projected beside its report)",
        tiny="aligned",
        demo="aligned",
        paper="code",
        choices=("code", "aligned"),
    )
    dropout: float = setting("dropout in the attention blocks", demo=0.0, paper=0.2)
    stem: str = setting(
        "per_lead (lead rows mean leads) | mixed (published)",
        demo="per_lead",
        paper="mixed",
        choices=("per_lead", "mixed"),
    )
    lead_attention: bool = setting("attention over leads", True)
    time_attention: bool = setting("attention over time within each lead", True)

    # --- training
    align_loss: str = setting(
        "cosine (published: no negatives) | infonce | frozen_text (text side fixed; reports "
        "that are alike count as alike)",
        tiny="frozen_text",
        demo="frozen_text",
        paper="cosine",
        choices=("cosine", "infonce", "frozen_text"),
    )
    temperature: float = setting(
        "softness of infonce and frozen_text: cosines are divided by it", 0.1
    )
    masking: str = setting(
        "none | published: whole leads, in strips also windows around R peaks and halves of leads",
        tiny="published",
        demo="none",
        paper="published",
        choices=("none", "published"),
    )
    noise_sd: float = setting(
        "noise added to what the network reads in training, in SDs of a lead; published none",
        tiny=0.1,
        demo=0.1,
        paper=0.0,
    )
    weight_decay: float = setting("AdamW's decay of matrices", demo=0.05, paper=0.01)
    recon_weight: float = setting(
        "alignment pretraining: loss = recon_weight * reconstruction + alignment; published 1",
        demo=0.3,
        paper=1.0,
    )
    head_steps: int = setting(
        "updates of the risk head alone, on frozen codes, before everything trains; 0 = none "
        "(published)",
        tiny=4,
        demo=200,
        paper=0,
    )
    head_lr: float = setting("learning rate of the head alone", 3e-3)
    report_weight: float = setting(
        "fine-tuning: weight, beside the Cox loss, of the distance from the risk that a Cox model "
        "reads off the training patient's own report; 0 = outcomes alone (published)",
        tiny=2.0,
        demo=2.0,
        paper=0.0,
    )
    pretrain_steps: int = setting(
        "updates of alignment pretraining", tiny=6, demo=350, paper=10_200
    )
    finetune_steps: int = setting("updates of risk fine-tuning", tiny=6, demo=100, paper=3600)
    pretrain_batch: int = setting("ECGs per pretraining update", tiny=16, demo=64, paper=128)
    finetune_batch: int = setting("ECGs per fine-tuning update", tiny=32, demo=64, paper=128)
    pretrain_lr: float = setting("learning rate of pretraining", demo=1e-2, paper=1e-3)
    finetune_lr: float = setting("learning rate of fine-tuning", demo=4e-3, paper=1e-4)
    valid_share: float = setting(
        "share of the training patients that chooses the fine-tuned weights by its C-index; 0 = "
        "the last weights are taken",
        tiny=0.2,
        demo=0.0,
        paper=0.2,
    )
    patience: int = setting(
        "validations without a better C-index that end fine-tuning; 0 = never", 0
    )
    alpha: float = setting("loss = alpha * reconstruction + (1 - alpha) * Cox", 0.5)
    protocol: str = setting(
        "paper | reference (published code: alpha weighs the Cox loss, batches are folds, ECGs are "
        "scored after masking, fine-tuning rebuilds the masked ECG)",
        "paper",
        choices=("paper", "reference"),
    )
    ties: str = setting("tied event times: efron | breslow", "efron", choices=("efron", "breslow"))

    # --- outcomes
    outcomes: str = setting("CSV (or folder) of follow-up; '' = simulated from a known hazard", "")
    outcome_map: str = setting(
        "columns of OUTCOMES: '' (patient_id, ecg_id, time_days, event) | code-15 | mimic-iv | "
        "uk-biobank",
        "",
        choices=("", "code-15", "mimic-iv", "uk-biobank"),
    )
    event_risk: float = setting(
        "simulated outcomes: mean true 5-year risk, beside competing death", demo=0.35, paper=0.08
    )
    hazards: str = setting(
        "simulated: YAML of hazard ratios; '' = ecgkit/data/hazards.yaml (copy and edit it)", ""
    )
    baseline: str = setting(
        "simulated: weibull (years since the ECG) | gompertz (attained age)",
        "weibull",
        choices=("weibull", "gompertz"),
    )
    measured: str = setting(
        "simulated: codes (SCP statements alone, on any data) | truth (heart rate and QRS as the "
        "simulator drew them, where it did)",
        "codes",
        choices=("codes", "truth"),
    )
    hr_age: float = setting(
        "simulated: hazard ratio per decade of age, 0 = as HAZARDS says; demo below the "
        "literature's 1.9, so that the ECG is what is tested",
        tiny=1.1,
        demo=1.1,
        paper=1.9,
    )
    hr_male: float = setting(
        "simulated: hazard ratio of men, 0 = as HAZARDS says", tiny=1.1, demo=1.1, paper=1.4
    )
    effect_scale: float = setting(
        "simulated: factor on the log hazard ratios of ECG findings", tiny=2.0, demo=2.0, paper=1.0
    )
    death_scale: float = setting(
        "simulated: factor on the rate of competing deaths; 0 = nobody dies before", 1.0
    )
    outcome_seed: int = setting("seed of the simulated outcomes", 11)
    test_folds: int = setting("folds 10, 9, ... held out for the C-index", tiny=2, demo=2, paper=1)
    cv_folds: int = setting(
        "folds of cross-validation of the training patients by five seeds (published 2); 0 = none",
        0,
    )

    def check(self) -> None:
        super().check()
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"ALPHA is {self.alpha}; it is a share, so give 0 to 1.")
        if not 0 <= self.valid_share <= 0.5:
            raise ConfigError(f"VALID_SHARE is {self.valid_share}; give 0 to 0.5.")
        if self.patience and not self.valid_share:
            raise ConfigError(
                f"PATIENCE is {self.patience} but VALID_SHARE is 0: nobody validates, so nothing "
                "can end the training early. Give both or neither."
            )
        if not 0 < self.temperature <= 10:
            raise ConfigError(f"TEMPERATURE is {self.temperature}; give a number in (0, 10].")
        if self.report_weight < 0:
            raise ConfigError(
                f"REPORT_WEIGHT is {self.report_weight}; give 0 (outcomes alone) or more."
            )
        if not 0 < self.event_risk < 1:
            raise ConfigError(f"EVENT_RISK is {self.event_risk}; it is a probability in (0, 1).")
        for name in ("hr_age", "hr_male", "effect_scale", "death_scale"):
            if not 0 <= getattr(self, name) < 100:
                raise ConfigError(f"{name.upper()} is {getattr(self, name)}; give 0 to below 100.")
        if self.outcome_map and not self.outcomes:
            raise ConfigError(
                f"OUTCOME_MAP is {self.outcome_map!r} but OUTCOMES is empty; name the file or "
                "folder that the map reads."
            )
        for name, untouched in (("hazards", ""), ("baseline", "weibull"), ("measured", "codes")):
            if self.outcomes and getattr(self, name) != untouched:
                raise ConfigError(
                    f"{name.upper()} is {getattr(self, name)!r} but OUTCOMES is {self.outcomes!r}: "
                    f"only simulated follow-up has a hazard to choose. Leave one of them out."
                )
        if not 1 <= self.test_folds <= 5:
            raise ConfigError(f"TEST_FOLDS is {self.test_folds}; hold out 1 to 5 of ten folds.")
        if self.cv_folds and not 2 <= self.cv_folds <= 10:
            raise ConfigError(f"CV_FOLDS is {self.cv_folds}; give 2 to 10, or 0 for none.")
        if self.base_features % 2:
            raise ConfigError(
                f"BASE_FEATURES is {self.base_features}; its four-fold must split into 8 heads, so "
                "it must be even."
            )
        if self.finetune_batch < 8:
            raise ConfigError(
                f"FINETUNE_BATCH is {self.finetune_batch}; a Cox batch needs at least 8 people to "
                "compare."
            )
