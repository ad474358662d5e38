"""Settings of few-shot episodes: which questions, how many examples, who is kept apart."""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig, setting
from ecgkit.types import ConfigError

EPISODE_TYPES = ("single-verify", "single-choose", "single-query", "all")


@dataclasses.dataclass(frozen=True)
class EpisodeSettings(KitConfig):
    """Published flags: question_type, n_way, k_spt, k_qry, repeats, dif_exp, test_dataset."""

    question_type: str = setting("kind of question", "single-verify", choices=EPISODE_TYPES)
    attribute_type: str = setting(
        "what the questions are about, as ECG-QA names it (scp_code, noise ...); '' = everything",
        demo="scp_code", paper="",
    )  # fmt: skip
    n_way: int = setting("classes per episode (published: 5, possible under reference)", 2)
    k_shot: int = setting("support examples per class", tiny=2, demo=5)
    n_query: int = setting("query examples per class", tiny=2, demo=5)
    contrastive: str = setting(
        "classes of an episode share their question (verify: yes against no), so that the question "
        "alone cannot answer; auto = on under sound, off under reference", "auto",
        choices=("auto", "on", "off"),
    )  # fmt: skip
    split_by: str = setting(
        "what is kept apart between meta-training and meta-test; '' = attribute under sound, none "
        "under reference (as released)", "", choices=("", "attribute", "class", "none"),
    )  # fmt: skip
    keep_families: bool = setting(
        "near-synonyms (infarctions of neighbouring sites, long PR and first degree block ...) "
        "stay on one side of a division by attribute", True,
    )  # fmt: skip
    split_seed: int = setting("seed of that division", 222)
    split_file: str = setting("split.json of an earlier run to use again; '' = divide anew", "")
    train_fraction: float = setting("share of it that meta-training may ask about", 0.8)
    min_samples: int = setting(
        "patients (reference: questions) a class must have; 0 = K_SHOT + N_QUERY (reference: the "
        "published minima)", 0,
    )  # fmt: skip
    keep_conflicting: bool = setting(
        "keep templates 4, 14, 17, 26, 28, 31, 40, whose published class keys mix questions (sound "
        "keys then tell them apart)", False,
    )  # fmt: skip
    mix_questions: bool = setting(
        "support and query of a class may be of several question_ids (published dif_exp=1); False: "
        "of one (0, its default)", True,
    )  # fmt: skip
    repeats: int = setting("how often the support set is shown again", 0)
    n_test_episodes: int = setting(
        "test episodes on unseen attributes, and as many on seen ones", tiny=4, demo=120, paper=1000
    )
    test_data: str = setting("source of ECGs of the test episodes; '' = DATA", "")
    test_ecgqa: str = setting("ECG-QA of the test episodes; '' = ECGQA", "")
    published_data: str = setting(
        "folder of the authors' data set (FSL_ECG_QA_Dataset), to look into; '' = none", ""
    )
    leads: str = setting("leads the encoder sees, e.g. 'I II V2'; '' = all twelve", "")
    protocol: str = setting(
        "sound = question, ECG, answer | reference = as released: ECG, then the answer on top of "
        "the question",
        "sound",
        choices=("sound", "reference"),
    )

    @property
    def same_question(self) -> bool:
        """Whether the classes of an episode share their question."""
        return self.contrastive == "on" or self.contrastive == "auto" and self.protocol == "sound"

    def check(self) -> None:
        super().check()
        if min(self.n_way, self.k_shot, self.n_query) < 1 or self.repeats < 0:
            raise ConfigError("N_WAY, K_SHOT and N_QUERY must be at least 1, REPEATS at least 0.")
        verify = self.question_type in ("single-verify", "all")
        if self.same_question and verify and self.n_way % 2:
            raise ConfigError(
                f"N_WAY is {self.n_way} but episodes are contrastive: yes and no come in pairs, so "
                "give an even N_WAY, or CONTRASTIVE=off, under which the question alone gives "
                "most answers away."
            )
        if self.same_question and self.question_type == "single-choose" and self.n_way > 4:
            raise ConfigError(
                f"N_WAY is {self.n_way} but a choose question has four answers at most (one, the "
                "other, both, none); give N_WAY up to 4, or CONTRASTIVE=off."
            )
        if not 0 < self.train_fraction < 1:
            raise ConfigError(
                f"TRAIN_FRACTION is {self.train_fraction}; it must lie between 0 and 1."
            )
