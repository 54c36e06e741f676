"""Sequential models through RecBole, trained and scored under the protocol's own split and candidates.

RecBole gives the networks (eSASRec's is our own), their configuration, the training loop and (for
``targets="one", loss="ce"``) its own data set, loader and loss. The split, the validation score and the
candidates come from this toolkit, so that ranks are made in one place for every method.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from baselines.epochs import EpochTraining
from baselines.recbole_compat import isolated_randomness, recbole_config, require_recbole
from baselines.recbole_options import RECBOLE_NAMES, RecBoleOptions, network_settings
from baselines.training_record import TrainingRecord, usual_epochs
from illmrec import checksums
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Split
from illmrec.errors import DamagedError, InputError
from illmrec.files import parsed_json
from illmrec.model.retrieval_loss import Sampler
from illmrec.ranking import mean_ndcg, target_ranks
from illmrec.temporary import scratch_folder

logger = logging.getLogger(__name__)

_SCORED_AT_ONCE = 512


class RecBoleRecommender:
    """A sequential recommender of RecBole behind the protocol's ``fit`` and ``score``."""

    def __init__(self, *, options: RecBoleOptions | None = None, device: str = "cpu") -> None:
        self.options = options or RecBoleOptions()
        self.device = torch.device(device)
        self.record: TrainingRecord | None = None
        self._network: Any = None
        self._n_items = 0
        require_recbole()

    def fit(
        self,
        dataset: Dataset,
        split: Split,
        *,
        seed: int,
        negatives: np.ndarray,
        checkpoint: Path | None = None,
        progress: bool = True,
    ) -> TrainingRecord:
        """Train on the training part; keep the epoch with the best validation NDCG@10.

        With several processes, one alone comes here.

        Args:
            dataset: The data set.
            split: Its leave-one-out split; training items and validation targets are read, never test items.
            seed: Seeds initialisation, order, windows, dropout and negatives; the process's generators are
                left alone.
            negatives: Int [n_users, n], the protocol's candidates, for the validation score only.
            checkpoint: Folder for the state of an unfinished run, or ``None``.
            progress: Show progress bars.

        Raises:
            InputError: If no user has two training items.
        """
        self._n_items = dataset.n_items
        n_targets = int(np.maximum(np.diff(split.train_offsets) - 1, 0).sum())
        if n_targets == 0:
            raise InputError(
                f"{dataset.name}: no user has two training items, {self.options.model} has nothing to learn; give users"
                " more interactions (a higher min_interactions keeps only such users)"
            )
        epochs = self.options.epochs or usual_epochs(n_targets)
        validated = split.users("valid")
        histories = [split.history(int(user), "valid") for user in validated]
        targets, candidates = split.targets("valid")[validated], negatives[validated]

        def validate() -> float:
            self._network.eval()
            ranks = []
            for begin in range(0, len(histories), _SCORED_AT_ONCE):
                users = slice(begin, begin + _SCORED_AT_ONCE)
                scores = self.score(histories[users])
                ranks.append(target_ranks(scores, targets[users], candidates=candidates[users]))
            return mean_ndcg(np.concatenate(ranks), 10)

        from recbole.trainer import Trainer

        with scratch_folder() as folder, isolated_randomness(seed):
            config = self._config(seed=seed, checkpoint_dir=str(folder), epochs=epochs)
            self._network = self._build(config)
            batches, steps, draws = self._batches(config, split.train_items(), split.train_offsets, seed=seed)
            if self.options.negatives is not None:
                self._network.sampling = _sampling(split, negatives=self.options.negatives, seed=seed)
                draws.append(self._network.sampling[1])
            trainer = Trainer(config, self._network)

            def train() -> float:
                count = 0
                with tqdm(total=steps, desc="epoch", unit="batch", leave=False, disable=not progress) as bar:

                    def counted() -> Iterator[Any]:
                        nonlocal count
                        for batch in batches:
                            count += 1
                            yield batch
                            bar.update(1)

                    return float(trainer._train_epoch(counted(), epoch_idx=0)) / count

            self.record = EpochTraining(
                name=self.options.model,
                network=self._network,
                optimiser=trainer.optimizer,
                train=train,
                validate=validate,
                draws=draws,
                epochs=epochs,
                patience=self.options.patience,
                checkpoint=checkpoint,
                identity={
                    "options": self.options.described(),
                    "seed": seed,
                    "data": dataset.training_fingerprint,
                    "epochs": epochs,
                },
                alone=True,
            ).run(targets=n_targets, progress=progress)
        self._network.eval()
        return self.record

    @torch.no_grad()
    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Score the whole catalogue for each history; the history itself is not masked.

        Args:
            histories: Item row numbers, oldest first; the last ``max_length`` are read.

        Returns:
            Float32 [histories, n_items], higher is better.

        Raises:
            InputError: If a history is empty.
        """
        network = self._trained()
        scores = np.empty((len(histories), self._n_items), dtype=np.float32)
        for begin, batch in self._read(histories):
            predicted = network.full_sort_predict(batch)[:, 1:].float().cpu().numpy()
            scores[begin : begin + len(predicted)] = predicted
        return scores

    @torch.no_grad()
    def states(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return what SASRec makes of each history: its product with item embeddings is the score.

        Args:
            histories: As for :meth:`score`.

        Returns:
            Float32 [histories, hidden_size].

        Raises:
            InputError: If a history is empty.
        """
        network = self._trained()
        found = np.empty((len(histories), self.options.hidden_size), dtype=np.float32)
        for begin, batch in self._read(histories):
            states = network.forward(batch["item_id_list"], batch["item_length"]).float().cpu().numpy()
            found[begin : begin + len(states)] = states
        return found

    def _read(self, histories: Sequence[np.ndarray]) -> Iterator[tuple[int, Any]]:
        """Yield RecBole's batches of histories, each with the place of its first."""
        from recbole.data.interaction import Interaction

        for begin in range(0, len(histories), _SCORED_AT_ONCE):
            part = [
                np.asarray(h)[-self.options.max_length :] for h in histories[begin : begin + _SCORED_AT_ONCE]
            ]
            lengths = np.fromiter(map(len, part), np.int64, len(part))
            if not lengths.all():
                raise InputError(
                    f"history {begin + int(lengths.argmin())} is empty: {self.options.model} needs one item"
                )
            inside = np.arange(lengths.max()) < lengths[:, None]
            sequences = np.zeros(inside.shape, dtype=np.int64)
            sequences[inside] = np.concatenate(part).astype(np.int64) + 1  # 0 is RecBole's padding
            batch = Interaction(
                {"item_id_list": torch.from_numpy(sequences), "item_length": torch.from_numpy(lengths)}
            )
            yield begin, batch.to(self.device)

    def item_embeddings(self) -> np.ndarray:
        """Return the item embedding table without padding, float32 [n_items, hidden_size]."""
        weight = self._trained().item_embedding.weight
        return weight.detach()[1 : self._n_items + 1].float().cpu().numpy().copy()

    def save(self, directory: Path) -> None:
        """Write ``parameters.safetensors`` and ``config.json`` into an existing folder."""
        state = {
            name: value.detach().cpu().contiguous() for name, value in self._trained().state_dict().items()
        }
        save_file(state, directory / "parameters.safetensors")
        config = {
            "options": self.options.described(),
            "n_items": self._n_items,
            "record": asdict(self.record) if self.record else None,
        }
        (directory / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, device: str = "cpu") -> RecBoleRecommender:
        """Read what ``save`` wrote.

        Raises:
            DamagedError: If the folder does not hold a saved model.
            InputError: If RecBole is missing.
        """
        checksums.check(directory, remedy="train it again")
        try:
            config = parsed_json((directory / "config.json").read_text(encoding="utf-8"))
            state = load_file(directory / "parameters.safetensors")
            loaded = cls(options=RecBoleOptions(**config["options"]), device=device)
            loaded._n_items = int(config["n_items"])
            record = config["record"]
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise DamagedError(
                f"{directory}: holds no saved sequential model ({error}); train it again"
            ) from error
        if record is not None:
            lists = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
            loaded.record = TrainingRecord(**{**record, **lists})
        loaded._draw()
        loaded._network.load_state_dict(state)
        return loaded

    @classmethod
    def untrained(cls, *, options: RecBoleOptions, n_items: int, device: str = "cpu") -> RecBoleRecommender:
        """Return a model with parameters as they are drawn, which costs what a trained one costs.

        Args:
            options: How it is built.
            n_items: Items of the catalogue.
            device: Where it computes.

        Raises:
            InputError: If RecBole is missing.
        """
        drawn = cls(options=options, device=device)
        drawn._n_items = n_items
        drawn._draw()
        return drawn

    def _draw(self) -> None:
        with scratch_folder() as folder, isolated_randomness(0):
            self._network = self._build(self._config(seed=0, checkpoint_dir=str(folder)))
        self._network.eval()

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self._trained().parameters())

    def _trained(self) -> Any:
        if self._network is None:
            raise RuntimeError("fit or load the model first")
        return self._network

    def _config(self, *, seed: int, checkpoint_dir: str, epochs: int = 1) -> Any:
        options = self.options
        settings: dict[str, Any] = {
            "seed": seed,
            "checkpoint_dir": checkpoint_dir,
            "data_path": checkpoint_dir,
            "gpu_id": "" if self.device.type == "cpu" else str(self.device.index or 0),
            "USER_ID_FIELD": "user_id",
            "ITEM_ID_FIELD": "item_id",
            "TIME_FIELD": "timestamp",
            "load_col": None,
            "MAX_ITEM_LIST_LENGTH": options.max_length,
            "loss_type": "CE",
            "train_neg_sample_args": None,
            "epochs": epochs,
            "train_batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "show_progress": False,
        }
        settings |= network_settings(options)
        return recbole_config(RECBOLE_NAMES[options.model], settings, device=self.device)

    def _build(self, config: Any) -> Any:
        from recbole.model.sequential_recommender import GRU4Rec, SASRec

        from baselines.ligr import ESASRec
        from baselines.recbole_masking import MaskedBERT4Rec
        from baselines.recbole_networks import Catalogue, EveryPositionGRU4Rec, EveryPositionSASRec

        own = self.options.targets == "one" and self.options.loss == "ce"
        network_class: Any = {
            ("sasrec", True): SASRec,
            ("sasrec", False): EveryPositionSASRec,
            ("gru4rec", True): GRU4Rec,
            ("gru4rec", False): EveryPositionGRU4Rec,
            ("bert4rec", False): MaskedBERT4Rec,
            ("esasrec", False): ESASRec,
        }[self.options.model, own]
        network = network_class(config, Catalogue(self._n_items)).to(self.device)
        if not own:
            network.pointwise = self.options.loss == "bce"
        return network

    def _batches(
        self, config: Any, items: np.ndarray, offsets: np.ndarray, *, seed: int
    ) -> tuple[Any, int, list[np.random.Generator | torch.Generator]]:
        """Return the training batches, iterable once per epoch, how many to expect, and what draws them."""
        options = self.options
        if options.targets == "one" and options.loss == "ce":
            from recbole.data.utils import get_dataloader

            from baselines.recbole_networks import TrainingSequences

            sequences = TrainingSequences(config, items=items, offsets=offsets, n_items=self._n_items)
            loader = get_dataloader(config, "train")(config, sequences, None, shuffle=True)
            return loader, len(loader), [loader.generator]
        # Windows are redrawn every epoch and negatives exclude all of a user's items; RecBole's loaders
        # hold fixed rows and exclude only the target. These batches feed RecBole's own Trainer all the
        # same.
        from baselines.recbole_masking import MaskedBatches
        from baselines.recbole_windows import WindowBatches

        rows: dict[str, Any] = {
            "items": items,
            "offsets": offsets,
            "n_items": self._n_items,
            "window": options.max_length,
            "batch_size": options.batch_size,
            "seed": seed,
        }
        if options.mask_ratio is not None and options.last_ratio is not None:
            masked = MaskedBatches(**rows, mask_ratio=options.mask_ratio, last_ratio=options.last_ratio)
            return masked, masked.expected_batches, [masked.random]
        windows = WindowBatches(**rows, negatives=options.loss == "bce", last_only=options.targets == "one")
        return windows, windows.expected_batches, [windows.random]


def _sampling(split: Split, *, negatives: int, seed: int) -> tuple[Sampler, np.random.Generator]:
    """Return what draws the items of a sampled softmax, and its generator."""
    items, offsets = split.train_items(), split.train_offsets
    is_target = np.ones(len(items), dtype=bool)
    is_target[offsets[:-1][np.diff(offsets) > 0]] = False  # nothing comes before a user's first item
    frequency = np.bincount(items[is_target], minlength=split.dataset.n_items).astype(np.float64)
    return Sampler(frequency, uniform=negatives), np.random.default_rng([seed, 2])
