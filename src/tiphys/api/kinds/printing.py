"""What the cells of `kubectl get` say: ages, selectors, containers, lists cut short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import Column, Object
from tiphys.base.clock import parse_rfc3339

NONE = "<none>"
UNSET = "<unset>"
UNKNOWN = "<unknown>"

NAME = Column("Name", format="name", description="@ObjectMeta.name")
AGE = Column("Age", description="@ObjectMeta.creationTimestamp")
CREATED_AT = Column("Created At", "date", description="@ObjectMeta.creationTimestamp")
CONTAINERS = Column("Containers", description="Names of each container in the template.", priority=1)
IMAGES = Column("Images", description="Images referenced by each container in the template.", priority=1)


def human_duration(seconds: float) -> str:
    """A length of time as kubectl shows it: two units at most, fewer as it grows."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 120:
        return f"{max(whole, 0)}s"
    minutes = whole // 60
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = whole // 3600
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    return _two(days // 365, "y", days % 365, "d") if days < 365 * 8 else f"{days // 365}y"


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit}{small}{small_unit}" if small else f"{large}{unit}"


def since(timestamp: str | None, now: float) -> str:
    """How long ago an RFC 3339 moment was."""
    return human_duration(now - parse_rfc3339(timestamp)) if timestamp else UNKNOWN


def name(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("name", ""))


def age(obj: Object, now: float) -> str:
    return since((obj.get("metadata") or {}).get("creationTimestamp"), now)


def created_at(obj: Object) -> Any:
    return (obj.get("metadata") or {}).get("creationTimestamp")


def labels_text(values: Mapping[str, str] | None) -> str:
    """A set of labels: a=b,c=d."""
    return ",".join(f"{key}={values[key]}" for key in sorted(values)) if values else NONE


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector in the language of `kubectl -l`; '' for one that selects everything."""
    if selector is None:
        return ""
    terms = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for requirement in selector.get("matchExpressions") or ():
        key, operator = requirement.get("key", ""), requirement.get("operator", "")
        values = ",".join(sorted(requirement.get("values") or ()))
        forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        terms.append((key, forms.get(operator, f"!{key}")))
    return ",".join(text for _, text in sorted(terms, key=lambda term: term[0]))


def format_selector(selector: Mapping[str, Any] | None) -> str:
    return selector_text(selector) or NONE


def container_cells(spec: Mapping[str, Any] | None) -> list[str]:
    """Names and images of a pod spec's containers."""
    listed = (spec or {}).get("containers") or ()
    return [",".join(c.get("name", "") for c in listed), ",".join(c.get("image", "") for c in listed)]


def cut_list(items: Sequence[str], most: int = 3, empty: str = UNSET) -> str:
    text = ",".join(items[:most])
    return f"{text} + {len(items) - most} more..." if len(items) > most else text or empty


def true_false(value: bool | None) -> str:
    return UNSET if value is None else "True" if value else "False"
