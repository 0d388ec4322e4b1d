"""Checks of trainable parameters, adapters, and the precision of frozen weights."""

from __future__ import annotations

from collections.abc import Iterator

from rscap.doctor.evidence import Counts, Evidence, Expected
from rscap.doctor.findings import Finding, found
from rscap.recipe import TOWERS, Tower

_SHOWN = 3
_GAIN = 0.02  # share of the base's loss
_MINOR = 0.01  # share of a tower's elements: norms that a library keeps in float32


def frozen_towers(evidence: Evidence) -> Iterator[Finding]:
    """Adapters or trainable parameters in a frozen tower."""
    states, adapter = evidence.expected.towers, evidence.adapter
    for tower in TOWERS:
        learns = evidence.learning.trainable.get(tower, 0) if evidence.learning else 0
        modules = adapter.modules.get(tower, 0) if adapter else 0
        if states is not None and states.get(tower) == "frozen" and (learns or modules):
            said = f"{evidence.expected.at(f'towers.{tower}')} freezes the {tower}"
            yield found("frozen-tower-learns", f"{said}; {_amount(learns, modules)}", where=_place(evidence, modules))
        elif states is None and tower == "vision_tower" and modules and adapter and _bare(adapter.targets):
            names = ", ".join(adapter.targets)
            text = f"the bare list {names} also matched the vision tower, which no setting trains"
            yield found("frozen-tower-learns", f"{text}; {_amount(learns, modules)}", where=adapter.where)


def _bare(targets: tuple[str, ...] | str) -> bool:
    return not isinstance(targets, str) and all("." not in name for name in targets)


def _amount(learns: int, modules: int) -> str:
    parts = [f"{modules} of its modules have an adapter"] if modules else []
    return " and ".join([*parts, f"{learns:,} of its parameters are trainable"] if learns else parts)


def _place(evidence: Evidence, modules: int) -> str:
    if modules and evidence.adapter:
        return evidence.adapter.where
    return evidence.learning.where if evidence.learning else ""


def still_towers(evidence: Evidence) -> Iterator[Finding]:
    """Towers that should be trained and are not."""
    for tower, state in (evidence.expected.towers or {}).items():
        said = f"{evidence.expected.at(f'towers.{tower}')} says {state!r} of the {tower}"
        if state == "adapted" and (adapter := evidence.adapter) and not adapter.modules.get(tower):
            yield found("tower-does-not-learn", f"{said}; none of its modules has an adapter", where=adapter.where)
        elif state != "frozen" and (learning := evidence.learning) and not learning.trainable.get(tower):
            yield found("tower-does-not-learn", f"{said}; none of its parameters is trainable", where=learning.where)


def unmatched_targets(evidence: Evidence) -> Iterator[Finding]:
    """Names of the target list that match no module."""
    if (adapter := evidence.adapter) and adapter.unmatched:
        text = f"{', '.join(map(repr, adapter.unmatched))} of {len(adapter.targets)} targets match no adapted module"
        yield found("target-unmatched", text, where=f"{adapter.where}, target_modules")


def untouched(evidence: Evidence) -> Iterator[Finding]:
    """B matrices that are still zero."""
    if (adapter := evidence.adapter) and adapter.untouched:
        text = f"all B matrices of the {' and the '.join(adapter.untouched)} are zero"
        yield found("adapter-untouched", text, where=adapter.where)


def spoilt_weights(evidence: Evidence) -> Iterator[Finding]:
    """NaN or infinity in the adapter."""
    if (adapter := evidence.adapter) and (names := adapter.not_finite):
        text = f"{len(names)} tensors hold NaN or infinity: {_listed(names)}"
        yield found("adapter-not-finite", text, where=adapter.where)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def unfit(evidence: Evidence) -> Iterator[Finding]:
    """Trained weights that do not fit their base model."""
    if (trained := evidence.trained) and trained.misfit:
        yield found("weights-unfit", trained.misfit, where=trained.where)


def nothing_learned(evidence: Evidence) -> Iterator[Finding]:
    """Trained weights that are no better on a training batch than the base."""
    trained, first = evidence.trained, evidence.first_losses
    if trained and first and trained.loss is not None and trained.loss > (1 - _GAIN) * first.mean:
        text = f"on the first training batch their loss is {trained.loss:.3f}, that of the base {first.mean:.3f}"
        yield found("nothing-learned", text, where=trained.where)


def other_method(evidence: Evidence) -> Iterator[Finding]:
    """Kind, rank, alpha, rsLoRA or DoRA of the adapter against its settings."""
    adapter, expected = evidence.adapter, evidence.expected
    if not adapter:
        return
    pairs: tuple[tuple[str, object, object], ...] = (
        ("PEFT type", expected.peft_type, adapter.kind),
        ("rank", expected.rank, adapter.rank),
        ("alpha", expected.alpha, adapter.alpha),
        ("rsLoRA", expected.rank_stabilised, adapter.rank_stabilised),
        ("DoRA", expected.weight_decomposed, adapter.weight_decomposed),
    )
    wrong = [
        f"{name} is {there}, should be {wanted}"
        for name, wanted, there in pairs
        if wanted is not None and there is not None and wanted != there
    ]
    if wrong:
        text = "; ".join(wrong)
        yield found("method-not-as-asked", f"{text} ({expected.at('adapter.rank')})", where=adapter.where)


def other_precision(evidence: Evidence) -> Iterator[Finding]:
    """Precision of frozen weights, and of products with quantised ones, against the settings."""
    weights, expected = evidence.weights, evidence.expected
    if not weights or not expected.dtype:
        return
    problems = [text for tower, counts in weights.dtypes.items() for text in _differs(tower, counts, expected)]
    if expected.dtype != "float32" and "float32" in weights.products:
        problems.append("quantised layers compute in float32")
    if problems:
        said = f"{expected.at('model.dtype')} asks for {expected.dtype}"
        more = f" with {expected.quantisation}" if expected.quantisation not in (None, "none") else ""
        yield found("dtype-not-as-asked", f"{said}{more}; {'; '.join(problems)}", where=weights.where)


def _differs(tower: Tower, counts: Counts, expected: Expected) -> Iterator[str]:
    total = sum(counts.values())
    quantised = expected.quantisation if tower in expected.quantise and expected.quantisation != "none" else None
    for dtype, count in counts.items():
        if dtype not in (expected.dtype, quantised) and count > _MINOR * total:
            yield f"{count:,} of {total:,} frozen parameters of the {tower} are {dtype}"
    if quantised and total and not counts.get(quantised):
        yield f"nothing of the {tower} is {quantised}"
