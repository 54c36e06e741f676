"""What the cells of a run share: data, split, candidates, features and the LLM, each loaded when first needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from baselines.a_llmrec import SequentialModel, aligned_features
from baselines.summarizer import Summaries, SummaryReport, summaries
from baselines.summarizer.writing import mean_tokens
from bench.harness.loading import loaded_dataset
from bench.harness.methods import RECBOLE
from bench.harness.pictures import check_not_exchanged, check_pictured, check_reads_pictures, of_parts, reader
from bench.harness.scores import ScoresFile
from bench.harness.settings import Settings
from bench.store.cell import content
from illmrec.assembly import load_representation
from illmrec.data.candidates import negatives
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Part, Split, split_of
from illmrec.errors import UnsupportedError
from illmrec.features.grids import MLLM, image_vectors, of_pictures
from illmrec.features.identity import encoder_identity
from illmrec.features.table import FeatureTable, stored_as
from illmrec.files import cache_dir, hash_json
from illmrec.model import processes
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.prompts.segments import Representation
from illmrec.prompts.templates import ANSWERS, INSTRUCTION, QUESTIONS, TASK
from illmrec.prompts.tokens import render_items
from illmrec.recommender import content_features

logger = logging.getLogger(__name__)

_KINDS: dict[str, Literal["vision", "text"]] = {"image": "vision", "text": "text"}


class Workspace:
    """Loads what cells need, once; of several processes the main one computes it and the others find it in the cache.

    Args:
        settings: Resolved settings of the run.

    Attributes:
        scores: Methods whose scores were made elsewhere, by name.
        told_dropped: Methods of which it was said that the LLM's positions cut their histories.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = settings.torch_device()
        self.variant: dict[str, Any] = {}
        self.scores: Mapping[str, ScoresFile] = {}
        self.told_dropped: set[str] = set()
        self._origin: Workspace | None = None
        self._images: Callable[[], tuple[FeatureTable, np.ndarray]] | None = None
        self._negatives: dict[tuple[int, Part], np.ndarray] = {}
        self._cf: dict[int, FeatureTable] = {}
        self._aligned: dict[int, FeatureTable] = {}
        self._content: dict[str, FeatureTable] = {}
        self._has_image: np.ndarray | None = None
        self._identities: dict[str, str] = {}
        self._rendered: dict[str, str | None] = {}

    def derive(
        self,
        *,
        variant: Mapping[str, Any],
        dataset: Dataset | None = None,
        images: Callable[[], tuple[FeatureTable, np.ndarray]] | None = None,
        settings: Settings | None = None,
    ) -> Workspace:
        """Return a workspace with other descriptions or pictures of the same items, or with other settings.

        Users, split, candidates, CF features and LLM are those of this one, so that nothing but the change differs.

        Args:
            variant: What is changed, as JSON values, ``{"kind": ..., ...}``: part of the cells' keys.
            dataset: The changed data set, with a fingerprint of its own; None for the same.
            images: Returns the image table without missing rows and bool [n_items], items that show a picture in the
                prompt; None computes both from the data set's pictures.
            settings: What is trained or evaluated otherwise on the same data by the same LLM; None for no change.

        Raises:
            ValueError: If the data set has other interactions.
        """
        derived = Workspace(self.settings if settings is None else settings)
        derived.variant, derived._origin, derived._images = dict(variant), self, images
        changed = self.dataset if dataset is None else dataset
        if changed.sequence_items is not self.dataset.sequence_items:
            raise ValueError("a derived workspace shares the interactions of its origin")
        derived.__dict__["dataset"], derived.told_dropped = changed, self.told_dropped
        return derived

    @cached_property
    def dataset(self) -> Dataset:
        """The data set."""
        return loaded_dataset(self.settings)

    @cached_property
    def _summaries(self) -> Summaries:
        endpoint = self.settings.summary_endpoint()
        if (self.dataset.items["summary"] == "").any():
            who = self.settings.llm if endpoint is None else endpoint.name
            logger.info("%s has items without a summary; %s writes them, once", self.dataset.name, who)
        with processes.main_first():
            return summaries(
                self.dataset,
                self.settings.llm,
                endpoint=endpoint,
                options=self.settings.summary_options(),
                device=self.device,
                progress=self.settings.progress,
            )

    @property
    def summarizer(self) -> str | None:
        """Who writes summaries and how, for a cell's configuration; None where every item has one."""
        if (self.dataset.items["summary"] != "").all():
            return None
        endpoint = self.settings.summary_endpoint()
        if endpoint is None:
            # The same LLM writes otherwise by another chat template, or where it ends answers elsewhere.
            backbone = self.backbone
            asked = [backbone.tokenizer.chat_template, backbone.model.generation_config.eos_token_id]
            who = f"{backbone.describe()['name']}@{hash_json([backbone.fingerprint, asked])[:8]}"
        else:
            who = endpoint.name.replace("@", "%40")
        options = ", ".join(
            f"{name} {value}" for name, value in self.settings.summary_options().described().items()
        )
        return f"{who} ({options})"

    @cached_property
    def summarised(self) -> Dataset:
        """The data set with a summary of every item: its own, else written by the whole LLM and kept in the cache."""
        if (self.dataset.items["summary"] != "").all():
            return self.dataset
        return replace(self.dataset, items=self.dataset.items.assign(summary=self._summaries.texts))

    @cached_property
    def summary_report(self) -> SummaryReport:
        """How the items came to their summaries; tokens are those of the LLM that reads them."""
        origin = self._origin
        if origin is not None and (self.summarizer is None or self.dataset is origin.dataset):
            return origin.summary_report  # changed items show the summaries of the clean ones
        counted = mean_tokens(self._summaries.texts, self.backbone.tokenizer)
        return replace(self._summaries.report, mean_tokens=counted)

    def dataset_of(self, representation: Representation) -> Dataset:
        """Return the data set with the columns that a representation reads."""
        return self.summarised if "summary" in representation.columns else self.dataset

    @cached_property
    def split(self) -> Split:
        """What is trained on and what is tested."""
        split = split_of(self.dataset)
        if self.dataset.points is not None:
            tested, targets = split.users("test"), split.every_target("test").items
            new = np.bincount(split.train_items(), minlength=self.dataset.n_items)[targets] == 0
            logger.info(
                "%s: %s of %s users are tested, %s have a target and nothing before it; of %s targets (%s) %s are "
                "items that are not in training",
                self.dataset.name,
                f"{len(tested):,}",
                f"{self.dataset.n_users:,}",
                f"{(split.targets('test') >= 0).sum() - len(tested):,}",
                f"{len(targets):,}",
                "each user's next item"
                if self.dataset.test_targets == "next"
                else "all items of each user's day",
                f"{new.sum():,}",
            )
        return split

    def negatives(self, seed: int, part: Part = "test") -> np.ndarray:
        """Return the sampled candidates of a seed, int32 [n_users, 100]; the same for every method.

        Args:
            seed: The seed.
            part: Of the test, or of validation, which has others.
        """
        if self._origin is not None:
            return self._origin.negatives(seed, part)
        if (seed, part) not in self._negatives:
            with processes.main_first():
                drawn = negatives(
                    self.dataset, seed=seed, n=self.settings.negatives, part=part, cache=cache_dir()
                )
            self._negatives[seed, part] = drawn
        return self._negatives[seed, part]

    def users(self, seed: int) -> np.ndarray:
        """Return the users to evaluate, int64, drawn by seed where the settings bound their number."""
        users, wanted = self.split.users("test"), self.settings.eval_users
        if wanted is None or wanted >= len(users):
            return users
        generator = np.random.default_rng([seed, self.dataset.n_users])
        return np.sort(generator.choice(users, wanted, replace=False))

    @property
    def backbone_arguments(self) -> dict[str, Any]:
        """Arguments of ``load_backbone`` except those that depend on the machine."""
        return {"name": self.settings.llm, "layers": self.settings.layers, "dtype": self.settings.dtype}

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen LLM."""
        if self._origin is not None:
            return self._origin.backbone
        with processes.main_first():
            return load_backbone(
                **self.backbone_arguments,
                device=self.device,
                compiled=self.settings.compile,
                plain=self.settings.plain,
            )

    def check_pictured(self, *, method: str, shown: Sequence[str] = (), scoring: Sequence[str]) -> None:
        """Refuse a method whose pictures no item has, see :func:`~bench.harness.pictures.check_pictured`."""
        if self._images is None:
            check_pictured(self.dataset, method=method, shown=shown, scoring=scoring)

    @property
    def pictured_by(self) -> Workspace:
        """The workspace whose pictures are encoded: where items were changed and pictures were not, its origin."""
        origin = self._origin
        own = self._images is None and origin is not None and self.dataset.images is not origin.dataset.images
        return self if origin is None or own else origin.pictured_by

    @property
    def encoders(self) -> dict[str, str]:
        """Names of the encoders by feature type; that of a vision-language model, if the LLM is one's."""
        return {"image": self.settings.vision, "text": self.settings.text, **reader(self.settings.llm)}

    def encoder_identities(self, names: Sequence[str]) -> dict[str, str]:
        """Return what stands for the encoders in a cell's configuration, with versions of those that are used.

        Args:
            names: The features that a method reads. Where images are missing, text features stand in for
                them; A-LLMRec aligns them with CF features.
        """
        pictured = any(image_vectors(name) for name in names)
        used = {"image": pictured, "text": pictured or not {"text", "aligned"}.isdisjoint(names)}
        for name in used.keys() - self._identities.keys():
            if used[name]:
                # Of large catalogues features are rounded when they are stored; those of before were not.
                rounded = " as float16" if stored_as(self.dataset.n_items) == "float16" else ""
                self._identities[name] = encoder_identity(self.encoders[name], kind=_KINDS[name]) + rounded
        return {name: self._identities[name] if used[name] else self.encoders[name] for name in used}

    def shown(self, representation: str) -> dict[str, Any]:
        """Return what a representation shows of the data set, for a cell's configuration.

        ``rendered`` stands for every text and slot, and for the fixed parts of the prompt: a class that was edited is
        another. It is None where the data lack what the class reads, which is said when the cell is computed.

        Args:
            representation: ``package.module:Class``.
        """
        if representation not in self._rendered:
            self._rendered[representation] = self._render(load_representation(representation))
        return {"representation": representation, "rendered": self._rendered[representation]}

    def _render(self, representation: Representation) -> str | None:
        dataset = self.dataset
        items = dataset.items
        if "summary" in representation.columns:
            # Those that are yet to be written are known by who writes them, and how.
            unwritten = pd.Series(
                [f"summary {row} by {content({'llm': self.summarizer})}" for row in range(len(items))],
                index=items.index,
            )
            items = items.assign(summary=items["summary"].mask(items["summary"] == "", unwritten))
        everywhere = np.ones(dataset.n_items, dtype=bool)
        pictured = ~everywhere if dataset.images is None else dataset.images.available
        present = {slot: pictured if of_pictures(slot) else everywhere for slot in representation.slots}
        try:
            rendered = render_items(items, representation, present=present).fingerprint
        except UnsupportedError:
            return None
        pictures = [self.backbone.picture_tokens] if MLLM in representation.slots else []
        return hash_json([rendered, TASK, INSTRUCTION, QUESTIONS, ANSWERS, *pictures])

    def features(self, names: Sequence[str], *, seed: int) -> tuple[dict[str, FeatureTable], np.ndarray]:
        """Return feature tables by name, and bool [n_items]: items whose picture is real.

        Args:
            names: Some of ``image``, ``cf``, ``text``; for slots also ``image-4``, ``mllm``, ``aligned`` (CF and text).
            seed: Of the CF model and of the alignment; content features have none.

        Raises:
            UnsupportedError: If parts of pictures are wanted that there are not, or the LLM reads none and is to.
        """
        parts = of_parts(names)
        if MLLM in parts:
            check_reads_pictures(self.backbone)
        check_not_exchanged(parts if self._images is not None else ())
        if self._images is not None and "image" in names and "image" not in self._content:
            with processes.main_first():
                self._content["image"], self._has_image = self._images()
        wanted = [name for name in (*parts, "image", "text") if name in names and name not in self._content]
        if wanted:
            with processes.main_first():
                tables, has_image = content_features(
                    wanted,
                    dataset=self.dataset,
                    encoders=self.encoders,
                    device=self.device,
                    progress=self.settings.progress,
                )
            self._content |= tables
            if any(map(of_pictures, wanted)):
                self._has_image = has_image
        found = {name: self._content[name] for name in names if name in self._content}
        found |= self._trained_features(names, seed)
        has_image = (
            self._has_image if self._has_image is not None else np.zeros(self.dataset.n_items, dtype=bool)
        )
        return found, has_image

    def _trained_features(self, names: Sequence[str], seed: int) -> dict[str, FeatureTable]:
        """Return those of the features that are trained on the interactions."""
        found = {"cf": self._cf_features(seed)} if "cf" in names else {}
        return found | ({"aligned": self._aligned_features(seed)} if "aligned" in names else {})

    def _cf_features(self, seed: int) -> FeatureTable:
        if self._origin is not None:
            return self._origin._cf_features(seed)
        if seed not in self._cf:
            from baselines.cf_features import cf_features  # RecBole is an extra

            arguments = self._sasrec_arguments(seed)
            with processes.main_first():
                self._cf[seed] = cf_features(self.dataset, self.split, **arguments)
        return self._cf[seed]

    def _aligned_features(self, seed: int) -> FeatureTable:
        cf = self._cf_features(seed)
        if self.settings.alignment == "none":
            return cf
        if seed not in self._aligned:
            texts = self.features(("text",), seed=seed)[0]["text"]
            with processes.main_first():
                self._aligned[seed] = aligned_features(
                    self.split,
                    cf=cf,
                    texts=texts,
                    sasrec=lambda: self._sasrec(seed),
                    alignment=self.settings.alignment,
                    seed=seed,
                    device=self.device,
                    progress=self.settings.progress,
                )
        return self._aligned[seed]

    def _sasrec(self, seed: int) -> SequentialModel:
        """Return the model that CF features are of, which is trained by now."""
        if self._origin is not None:
            return self._origin._sasrec(seed)
        from baselines.recbole_cache import trained_recbole

        return trained_recbole(self.dataset, self.split, **self._sasrec_arguments(seed))

    def _sasrec_arguments(self, seed: int) -> dict[str, Any]:
        return {
            "seed": seed,
            "negatives": self.negatives(seed, "valid"),
            "options": self.recbole_options("sasrec"),
            "device": self.device,
            "progress": self.settings.progress,
        }

    def recbole_options(self, method: str) -> Any:
        """Return the options of a sequential model by the method's name."""
        from baselines.recbole_options import default_options

        changes = dict(RECBOLE[method])
        if method == "sasrec-short":
            changes["max_length"] = self.settings.history_length
        if self.settings.cf_epochs is not None:
            changes["epochs"] = self.settings.cf_epochs
        return default_options(**changes)

    def described_recbole(self, method: str) -> dict[str, Any]:
        """Return the options of a sequential model for a cell's configuration."""
        from baselines.recbole_cache import described_options

        return described_options(self.recbole_options(method))
