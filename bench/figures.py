"""The figures with a target, each computed round by round, so that a disturbance affects both sides of a ratio."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

GO = "go-limits"


@dataclass(frozen=True)
class Figure:
    """A figure, its target, and how it is computed from the results."""

    title: str
    part: str
    target: float
    at_least: bool
    values: Callable[[dict], list[float]]
    unit: str = "×"

    def judge(self, values: list[float], noise: dict) -> str:
        """Reached, missed, or too noisy to tell: the machine was not quiet and the rounds disagree, or it was very noisy."""
        low, middle, high = spread(values)
        if self.is_timed() and (noise["useless"] or (noise["noisy"] and low < self.target < high)):
            return "too noisy to tell"
        return "reached" if self.reached(middle) else f"missed by {self.shortfall(middle):.0%}"

    def is_timed(self) -> bool:
        return self.part not in ("memory", "binary")

    def reached(self, value: float) -> bool:
        return value >= self.target if self.at_least else value <= self.target

    def shortfall(self, value: float) -> float:
        return abs(value - self.target) / self.target


def spread(values: list[float]) -> tuple[float, float, float]:
    """Minimum, median, maximum."""
    return min(values), statistics.median(values), max(values)


def rate(part: str, one: str, other: str) -> Callable[[dict], list[float]]:
    return pairs(part, one, other, lambda result: result["rate"])


def pairs(part: str, one: str, other: str, of: Callable[[dict], float]) -> Callable[[dict], list[float]]:
    return lambda results: [of(a) / of(b) for a, b in zip(results[part][one], results[part][other], strict=True)]


def cpu(result: dict) -> float:
    return result["cpu_service"] + result["cpu_database"]


def plain(part: str, name: str) -> Callable[[dict], list[float]]:
    return lambda results: results[part][name]


FIGURES = [
    Figure("GET/s against pgbench's best", "get", 1.0, True, rate("get", "dob-api", "pgbench")),
    Figure("GET/s against axum + sqlx", "get", 3.6, True, rate("get", "dob-api", "axum-sqlx")),
    Figure("GET/s against actix-web + deadpool", "get", 2.5, True, rate("get", "dob-api", "actix-deadpool")),
    Figure("GET/s against Go with pool limits", "get", 5.5, True, rate("get", "dob-api", GO)),
    Figure("GET/s against our HTTP path without a store", "get", 0.47, True, rate("get", "dob-api", "no-store")),
    Figure("GET/s, embedded store against PostgreSQL", "get", 1.0, True, rate("get", "dob-api-embedded", "dob-api")),
    Figure("CPU per GET, service + PostgreSQL, against Go with pool limits", "get", 1 / 8, False, pairs("get", "dob-api", GO, cpu)),
    Figure("p99 of GETs at saturation against Go with pool limits", "get", 0.05, False, pairs("get", "dob-api", GO, lambda result: result["p99"])),
    Figure("PUT/s against pgbench's best", "put", 2.3, True, rate("put", "dob-api", "pgbench")),
    Figure("PUT/s against axum + sqlx", "put", 4.0, True, rate("put", "dob-api", "axum-sqlx")),
    Figure("PUT/s against actix-web + deadpool", "put", 3.4, True, rate("put", "dob-api", "actix-deadpool")),
    Figure("PUT/s against Go with pool limits", "put", 5.0, True, rate("put", "dob-api", GO)),
    Figure("PUT/s, embedded store against PostgreSQL", "put", 0.5, True, rate("put", "dob-api-embedded", "dob-api")),
    Figure("mixed 90/10, 256 connections, against Go with pool limits", "mixed", 6, True, rate("mixed", "dob-api", GO)),
    Figure(
        "p50 at 4,000 GET/s, 1 ms of network, against one bb8 checkout per request",
        "paced",
        1.0,
        False,
        pairs("paced", "dob-api", "one-checkout", lambda result: result[0]),
    ),
    Figure(
        "p99 at 4,000 GET/s, 1 ms of network, against one bb8 checkout per request",
        "paced",
        1.0,
        False,
        pairs("paced", "dob-api", "one-checkout", lambda result: result[1]),
    ),
    Figure("CPU per GET, 10 million users against 10 thousand", "growth", 1.3, False, pairs("growth", "10000000", "10000", cpu)),
    Figure("memory, idle", "memory", 3, False, plain("memory", "idle"), "MB"),
    Figure("memory with 256 connections", "memory", 8, False, plain("memory", "256 connections"), "MB"),
    Figure("memory after 10,000 connections came and went", "memory", 4, False, plain("memory", "after 10,000 left"), "MB"),
    Figure("exec to READY and the store reached, embedded store", "start", 20, False, plain("start", "embedded"), "ms"),
    Figure("exec to READY and the store reached, PostgreSQL", "start", 20, False, plain("start", "PostgreSQL"), "ms"),
    Figure("static binary with TLS", "binary", 4, False, plain("binary", "size"), "MB"),
]


def measured(results: dict) -> list[tuple[Figure, list[float]]]:
    """The figures whose parts ran."""
    return [(figure, figure.values(results)) for figure in FIGURES if figure.part in results]
