"""The papers' tables as experiments on one's own data. Needs the extra `train`."""

from atrous.ablation.cost import Estimate, Item, estimate
from atrous.ablation.experiment import Experiment, Judgement, Row, Times
from atrous.ablation.plan import Plan, Run, make_plan
from atrous.ablation.report import HEADER, cells, write_report
from atrous.ablation.results import Line, Result, Spread, read_results, summarise
from atrous.ablation.running import pending, run_plan
from atrous.ablation.tables import EXPERIMENTS, find_experiment

__all__ = [
    "EXPERIMENTS",
    "HEADER",
    "Estimate",
    "Experiment",
    "Item",
    "Judgement",
    "Line",
    "Plan",
    "Result",
    "Row",
    "Run",
    "Spread",
    "Times",
    "cells",
    "estimate",
    "find_experiment",
    "make_plan",
    "pending",
    "read_results",
    "run_plan",
    "summarise",
    "write_report",
]
