"""Which experiments there are: their place in the paper, what ``bench all`` gives them, and the work they take.

The order is that of ``bench all``. What trains most of the shared models comes early, so that later experiments
find them; any order gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from illmrec.errors import InputError, nearest

ALL_FEATURES = ("image", "cf", "text")

Model = tuple[str, bool, tuple[str, ...]]
"""Method, with RISA, feature types: a model trained on the data as they are, shared between experiments."""


def _full(*methods: str) -> tuple[Model, ...]:
    return tuple((method, True, ALL_FEATURES) for method in methods)


REPRESENTATIONS = ("illmrec", "illmrec+", "tallrec", "trsr", "full-description", "title")
_SETS: tuple[Model, ...] = (
    ("illmrec", True, ("image",)),
    ("illmrec", True, ("cf",)),
    ("illmrec", True, ("image", "cf")),
    ("illmrec", True, ALL_FEATURES),
)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What an experiment computes, for an estimate of its cost.

    Attributes:
        models: Models that it shares with other experiments; each is trained and evaluated once per seed.
        own: Models on changed data or trained in another way, which it shares with none, by method; one with prompts
            of twice the length counts as two.
        cf: SASRec trainings of its own, for CF features on other data.
        reads: Further evaluations of shared models, by method.
        timed: Prompts of 10 items that the LLM reads to be timed, by method.
        timed_training: Prompts of 10 items that the LLM is trained on to be timed.
        whole: Timing takes the whole LLM where the preset shortens it.
        summaries: Needs a summary of every item.
        pictures: Times that pictures of all items are encoded anew.
        seconds: Work without LLM, in seconds on a machine that multiplies float32 matrices at 100 GFLOP/s.
    """

    models: tuple[Model, ...] = ()
    own: Mapping[str, float] = field(default_factory=dict)
    cf: int = 0
    reads: Mapping[str, float] = field(default_factory=dict)
    timed: Mapping[str, float] = field(default_factory=dict)
    timed_training: float = 0.0
    whole: bool = True
    summaries: bool = False
    pictures: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment, ``python -m bench.NAME``.

    Attributes:
        name: Its module.
        paper: Table, figure or appendix of the paper; empty where the paper has none.
        question: What it answers, in a few words.
        work: What it computes with its own options.
        arguments: Options that ``bench all`` adds, by preset.
        smoke_work: What it computes with those of the preset smoke, where they differ.
        paper_work: What it computes with those of the preset paper, where they differ.
        toyshop: Options that ``bench all`` adds on the generated data, by preset: what they need to support it.
        variant: Kind of the changed data that its own models are trained on, as in their cells.
        toyshop_only: Its models exist on the generated data only.
        settings: It takes the options that experiments share; the others take --out, --overwrite and --no-progress.
    """

    name: str
    paper: str
    question: str
    work: Work
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    smoke_work: Work | None = None
    paper_work: Work | None = None
    toyshop: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    variant: str = ""
    toyshop_only: bool = False
    settings: bool = True

    @property
    def module(self) -> str:
        """Name of the module, for ``python -m``."""
        return f"bench.{self.name}"

    def work_at(self, preset: str) -> Work:
        """Return what it computes under a preset of ``bench all``."""
        return {"smoke": self.smoke_work, "paper": self.paper_work}.get(preset) or self.work

    def extra(self, *, preset: str, dataset: str) -> list[str]:
        """Return the options that ``bench all`` adds to the user's."""
        generated = self.toyshop.get(preset, ()) if dataset == "toyshop" else ()
        return [*self.arguments.get(preset, ()), *generated]


_RARE_ITEMS = ("--min-interactions", "1", "--items")

EXPERIMENTS: tuple[Experiment, ...] = (
    # First: on generated data it uses a catalogue of its own, and the report leads with the newest data set.
    Experiment(
        name="unseen_items",
        paper="Appendix E.6",
        question="which features recommend items that training has never seen",
        work=Work(models=_SETS),
        arguments={"smoke": ("--min-users", "5")},
        # After a 5-core no generated item is rare enough.
        toyshop={
            "smoke": (*_RARE_ITEMS, "400", "--users", "60"),
            "small": (*_RARE_ITEMS, "1600"),
            "paper": (*_RARE_ITEMS, "1600"),
        },
    ),
    Experiment(
        name="token_cost",
        paper="Figure 1(a)",
        question="how many tokens items and prompts take",
        work=Work(summaries=True, seconds=2),
    ),
    Experiment(
        name="efficiency",
        paper="Figures 1(a), 3",
        question="tokens, latency, memory and FLOPs of each representation",
        work=Work(timed=dict.fromkeys(REPRESENTATIONS, 416.0), summaries=True),
        arguments={"smoke": ("--repeats", "1")},
        smoke_work=Work(timed=dict.fromkeys(REPRESENTATIONS, 32.0), summaries=True),
    ),
    Experiment(
        name="comparison",
        paper="Table 1",
        question="accuracy of all methods under one protocol",
        work=Work(models=_full(*REPRESENTATIONS, "sasrec", "gru4rec"), summaries=True),
    ),
    Experiment(
        name="ablation",
        paper="Table 2",
        question="what RISA and each feature type are worth",
        work=Work(models=(("illmrec", False, ("image",)), *_SETS)),
    ),
    Experiment(
        name="tradeoff",
        paper="Figure 1(b)",
        question="latency against accuracy of each representation",
        work=Work(
            models=_full(*REPRESENTATIONS),
            timed=dict.fromkeys(REPRESENTATIONS, 80.0),
            whole=False,
            summaries=True,
        ),
        # Of the preset smoke, bench.efficiency has measured the same LLM.
        arguments={"smoke": ("--repeats", "1")},
        smoke_work=Work(models=_full(*REPRESENTATIONS), summaries=True),
    ),
    Experiment(
        name="sequence_length",
        paper="Figure 3",
        question="what reading more of the history costs and brings",
        work=Work(
            models=_full("illmrec", "illmrec+", "tallrec", "trsr"),
            reads=dict.fromkeys(("illmrec", "illmrec+", "tallrec", "trsr"), 4.2),
            timed=dict.fromkeys(("illmrec", "illmrec+", "tallrec", "trsr"), 416.0),
            whole=False,
            summaries=True,
        ),
        # Of the preset smoke, bench.efficiency has measured the same LLM.
        arguments={"smoke": ("--lengths", "2,10,20", "--repeats", "1")},
        smoke_work=Work(
            models=_full("illmrec", "illmrec+", "tallrec", "trsr"),
            reads=dict.fromkeys(("illmrec", "illmrec+", "tallrec", "trsr"), 0.7),
            summaries=True,
        ),
    ),
    Experiment(
        name="context_budget",
        paper="Figure 4",
        question="accuracy and latency within a budget of tokens, and what is dropped",
        work=Work(
            models=_full("illmrec", "illmrec+", "tallrec", "trsr"),
            reads=dict.fromkeys(("illmrec", "illmrec+", "tallrec", "trsr"), 4.5),
            timed=dict.fromkeys(("illmrec", "illmrec+", "tallrec", "trsr"), 200.0),
            whole=False,
            summaries=True,
        ),
        arguments={"smoke": ("--contexts", "256,1024", "--repeats", "1")},
        smoke_work=Work(
            models=_full("illmrec", "illmrec+", "tallrec", "trsr"),
            reads=dict.fromkeys(("illmrec", "illmrec+", "tallrec", "trsr"), 1.2),
            timed=dict.fromkeys(("illmrec", "illmrec+", "tallrec", "trsr"), 15.0),
            whole=False,
            summaries=True,
        ),
    ),
    Experiment(
        name="robustness",
        paper="Figure 5",
        question="attributes, summary or description, and what noise in the text does",
        work=Work(
            models=_full("illmrec", "tallrec", "trsr", "full-description", "title"),
            # Markup makes descriptions 2.2 and 3.4 times as long, boilerplate 1.4 and 1.9 times.
            own={"full-description": 11.4},
            summaries=True,
        ),
        arguments={"smoke": ("--kinds", "html,missing", "--levels", "0,1")},
        smoke_work=Work(
            models=_full("illmrec", "tallrec", "trsr", "full-description", "title"),
            own={"full-description": 3.4},
            summaries=True,
        ),
        variant="noisy-descriptions",
    ),
    Experiment(
        name="item_popularity",
        paper="Figure 6",
        question="which features recommend cold items, and which warm ones",
        work=Work(models=_SETS),
    ),
    Experiment(
        name="user_activity",
        paper="Figure 11",
        question="which features suit users with short histories, and with long ones",
        work=Work(models=_SETS),
    ),
    Experiment(
        name="missing_images",
        paper="Table 8",
        question="what if images are missing, and what should stand in",
        work=Work(models=_full("illmrec", "tallrec", "trsr"), own={"illmrec": 11}, summaries=True),
        arguments={"smoke": ("--fractions", "0,0.5")},
        smoke_work=Work(models=_full("illmrec", "tallrec", "trsr"), own={"illmrec": 3}, summaries=True),
        variant="missing-images",
    ),
    Experiment(
        name="image_quality",
        paper="Table 9",
        question="how small, compressed or blurred may pictures be",
        work=Work(models=(_SETS[0], _SETS[3]), own={"illmrec": 20}, pictures=10),
        arguments={"smoke": ("--resolutions", "32", "--jpeg-qualities", "20", "--blurs", "4")},
        smoke_work=Work(models=(_SETS[0], _SETS[3]), own={"illmrec": 6}, pictures=3),
        variant="image-quality",
    ),
    Experiment(
        name="overlap",
        paper="Figures 1(c), 8, 9, Table 5",
        question="how far pictures say what descriptions say, and what that is worth",
        work=Work(
            own={"illmrec": 3, "illmrec+": 3, "tallrec": 3, "trsr": 3, "full-description": 3},
            cf=3,
            pictures=3,
        ),
        arguments={"smoke": ("--overlaps", "0,1", "--methods", "illmrec,tallrec")},
        smoke_work=Work(own={"illmrec": 2, "tallrec": 2}, cf=2, pictures=2),
        toyshop_only=True,
    ),
    Experiment(
        name="training_strategy",
        paper="Tables 3, 10",
        question="frozen LLM, LoRA, end to end, two stages",
        work=Work(models=_full("illmrec"), own={"illmrec": 6}),
        variant="training-strategy",
    ),
    Experiment(
        name="time_to_accuracy",
        paper="",
        question="how soon each way of training reaches which accuracy",
        work=Work(seconds=700),
        arguments={"smoke": ("--methods", "illmrec"), "small": ("--seconds", "120")},
        smoke_work=Work(seconds=20),
    ),
    Experiment(
        name="tune",
        paper="",
        question="which hyper-parameters suit each method, searched with equal budgets on validation",
        work=Work(seconds=900),
        arguments={"smoke": ("--methods", "illmrec,sasrec"), "small": ("--trials", "6", "--minutes", "4")},
        smoke_work=Work(seconds=40),
    ),
    Experiment(
        name="backbones",
        paper="Table 11",
        question="other LLMs and vision encoders",
        work=Work(models=_full("illmrec"), own={"illmrec": 0.5}, timed={"illmrec": 120}, whole=False),
    ),
    Experiment(
        name="catalogue_growth",
        paper="Appendix E.13",
        question="a model trained on a smaller catalogue serving a larger one",
        work=Work(
            models=(("illmrec", True, ("image", "text")), _SETS[3]),
            own={"illmrec": 4},
            cf=2,
            reads={"illmrec": 12},
        ),
        # Of a smaller share, fewer than 100 candidates would be left.
        arguments={"smoke": ("--shares", "0.9,1")},
        smoke_work=Work(
            models=(("illmrec", True, ("image", "text")), _SETS[3]),
            own={"illmrec": 2},
            cf=1,
            reads={"illmrec": 6},
        ),
        variant="smaller-catalogue",
    ),
    Experiment(
        name="figure_types",
        paper="Appendix E.11",
        question="what the pictures in hit and in missed histories show",
        work=Work(models=_full("illmrec"), seconds=5),
    ),
    Experiment(
        name="preparation",
        paper="Appendix E.5",
        question="how long features and summaries take to make, and after how many requests it has paid",
        work=Work(summaries=True, seconds=2),
    ),
    Experiment(
        name="throughput",
        paper="",
        question="the engine beside the strongest plain passes and the released code's manner",
        work=Work(timed={"illmrec": 260}, timed_training=1700),
        smoke_work=Work(timed={"illmrec": 35}, timed_training=190),
    ),
    Experiment(
        name="scaling",
        paper="",
        question="how time grows with users, history and catalogue",
        work=Work(timed={"illmrec": 440}, seconds=20),
        smoke_work=Work(timed={"illmrec": 90}, seconds=2),
    ),
    Experiment(
        name="retrieval",
        paper="",
        question="exact search against FAISS indexes on a large generated catalogue",
        work=Work(seconds=120),
        arguments={
            "smoke": ("--preset", "smoke"),
            "small": ("--items", "100000", "--queries", "300"),
        },
        smoke_work=Work(seconds=10),
        paper_work=Work(seconds=1500),
        settings=False,
    ),
)


def chosen(names: Sequence[str]) -> list[Experiment]:
    """Return experiments by name in the order of ``bench all``, each once; all of them where no name is given.

    Raises:
        InputError: If there is no such experiment, with the nearest valid name.
    """
    known = [experiment.name for experiment in EXPERIMENTS]
    for name in names:
        if name not in known:
            raise InputError(f"--experiments {name}: unknown experiment: {nearest(name, known)}")
    return [experiment for experiment in EXPERIMENTS if not names or experiment.name in names]
