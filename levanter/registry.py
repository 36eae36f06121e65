"""Which components there are, by name: the one list that configurations, `--help` and the documentation read.

A component is a model family, an optimizer, a source of text or a tracker. Each has a folder of its own, its config
beside its code, and one line here: its name and `module:Class` of its config. A class is imported when it is asked for
and not before, so that listing the names costs nothing, and a config of one model imports no other. A class of the
user's own needs no line: its place, `my_package.my_model:MyConfig` or `path/to/my_model.py:MyConfig`, is its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from levanter import errors, user_code


class Registry(Mapping[str, type[Any]]):
    """The config classes of one kind of component by name, or by place; looking one up imports it.

    Args:
        kind: what a component is called in a message, such as "optimizer".
        components: name → `module:Class`.
        default: the name that stands where a configuration gives none.
    """

    def __init__(self, kind: str, components: Mapping[str, str], default: str | None = None) -> None:
        self.kind = kind
        self.default = default
        self._places = dict(components)
        self._classes: dict[str, type[Any]] = {}

    def __getitem__(self, name: str) -> type[Any]:
        if name not in self._classes:
            if name not in self._places and user_code.is_place(name):
                return user_code.load(name)
            module, _, cls = self._places[name].partition(":")
            self._classes[name] = getattr(import_module(module), cls)
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places or user_code.is_place(name)

    def add(self, name: str, component: str | type[Any]) -> None:
        """Register one more component, by `module:Class` of its config or by the class itself.

        Raises:
            UserError: another component has that name.
        """
        place = component if isinstance(component, str) else _place(component)
        if self._places.get(name, place) != place:
            raise errors.component_exists(self.kind, name, self._places[name], place)
        self._places[name] = place
        if not isinstance(component, str):
            self._classes[name] = component

    def remove(self, name: str) -> None:
        """Take a component off the list."""
        del self._places[name]
        self._classes.pop(name, None)

    def name_of(self, cls: type) -> str:
        """The name that `cls` is registered under, or its place.

        Raises:
            ValueError: it is not registered, and stands in a function.
        """
        for name, place in self._places.items():
            if place == _place(cls):
                return name
        if (place := user_code.place_of(cls)) is not None:
            return place
        raise ValueError(f"{cls.__name__} is not a registered {self.kind}")

    def make_default(self) -> Any:
        """The config of the default component, with all its defaults."""
        if self.default is None:
            raise ValueError(f"no {self.kind} is the default")
        return self[self.default]()


class Component:
    """What the base class of a kind's configs inherits, with its registry: an incomplete config is refused in words."""

    registry: Registry

    def __init_subclass__(cls, registry: Registry | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if registry is not None:
            cls.registry = registry

    def __new__(cls, *arguments: Any, **fields: Any) -> Any:
        if missing := sorted(getattr(cls, "__abstractmethods__", ())):
            raise errors.component_incomplete(cls.registry.kind, _place(cls), missing)
        return super().__new__(cls)


class Choice(Component):
    """Makes the base class of a kind's configs a choice type of `draccus` whose choices are those of its registry.

    `class OptimizerConfig(Choice, draccus.ChoiceRegistry, registry=OPTIMIZERS)`: in YAML, `type:` says which it is.
    """

    @classmethod
    def register_subclass(cls, name: str, choice_type: type[Any] | None = None) -> Any:
        """Register a class of one's own under `name`, also as a decorator; see `Registry.add`."""
        if choice_type is None:
            return partial(cls.register_subclass, name)
        cls.registry.add(name, choice_type)
        return choice_type

    @classmethod
    def get_known_choices(cls) -> Mapping[str, type[Any]]:
        return cls.registry

    @classmethod
    def get_choice_class(cls, name: str) -> type[Any]:
        """The config class called `name`.

        Raises:
            UserError: `name` is a place, and nothing is there or no such config.
        """
        found = cls.registry[name]
        if not (isinstance(found, type) and issubclass(found, cls)):
            raise errors.no_component(cls.registry.kind, name, cls)
        if vars(found).get("__annotations__") and "__dataclass_fields__" not in vars(found):
            raise errors.no_dataclass(cls.registry.kind, name, found.__name__)
        return found

    @classmethod
    def get_choice_name(cls, subcls: type) -> str:
        if "registry" in vars(subcls):  # the base class of a kind: draccus asks whether it is a choice itself
            raise ValueError(f"{subcls.__name__} is no {cls.registry.kind}")
        return cls.registry.name_of(subcls)

    @classmethod
    def default_choice_name(cls) -> str | None:
        return cls.registry.default


def _place(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


MODELS = Registry(
    "model",
    {
        "gpt2": "levanter.models.gpt2.config:Gpt2Config",
        "llama": "levanter.models.llama.config:LlamaConfig",
        "mistral": "levanter.models.mistral.config:MistralConfig",
        "mixtral": "levanter.models.mixtral.config:MixtralConfig",
        "qwen2": "levanter.models.qwen2.config:Qwen2Config",
        "qwen3": "levanter.models.qwen3.config:Qwen3Config",
        "gemma": "levanter.models.gemma.config:GemmaConfig",
        "gemma2": "levanter.models.gemma2.config:Gemma2Config",
        "gemma3": "levanter.models.gemma3.config:Gemma3Config",
        "olmo2": "levanter.models.olmo2.config:Olmo2Config",
        "phi3": "levanter.models.phi3.config:Phi3Config",
    },
    default="gpt2",
)

TASKS = Registry(
    "model",
    {
        "vit": "levanter.models.vit.config:VitConfig",
        "whisper": "levanter.models.whisper.config:WhisperConfig",
    },
)
"""Models that are no language models."""

OPTIMIZERS = Registry(
    "optimizer",
    {
        "adamw": "levanter.optim.adamw.config:AdamWConfig",
        "lion": "levanter.optim.lion.config:LionConfig",
        "adafactor": "levanter.optim.adafactor.config:AdafactorConfig",
        "sophia": "levanter.optim.sophia.config:SophiaConfig",
        "muon": "levanter.optim.muon.config:MuonConfig",
        "soap": "levanter.optim.soap.config:SoapConfig",
        "schedule_free": "levanter.optim.schedule_free.config:ScheduleFreeConfig",
    },
    default="adamw",
)

ADAPTERS = Registry("adapter", {"lora": "levanter.adapters.lora.config:LoraConfig"}, default="lora")

SOURCES = Registry(
    "source of text",
    {
        "sotu": "levanter.data.sources.sotu.config:SotuDataConfig",
        "text": "levanter.data.sources.text.config:TextDataConfig",
        "jsonl": "levanter.data.sources.jsonl.config:JsonlDataConfig",
        "parquet": "levanter.data.sources.parquet.config:ParquetDataConfig",
        "hf": "levanter.data.sources.hf.config:HfDataConfig",
        "chat": "levanter.data.sources.chat.config:ChatDataConfig",
        "mixture": "levanter.data.sources.mixture.config:MixtureDataConfig",
    },
    default="sotu",
)

TRACKERS = Registry(
    "tracker",
    {
        "metrics_file": "levanter.trackers.metrics_file.config:MetricsFileConfig",
        "console": "levanter.trackers.console.config:ConsoleConfig",
        "wandb": "levanter.trackers.wandb.config:WandbConfig",
        "tensorboard": "levanter.trackers.tensorboard.config:TensorboardConfig",
        "trackio": "levanter.trackers.trackio.config:TrackioConfig",
    },
)
