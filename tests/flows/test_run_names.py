"""The name of a flow run, which Prefect asks for when the run starts on a server."""

import inspect

import pytest

from flows.demo import demo
from flows.evaluate import evaluate
from flows.notify import notify
from flows.retrain import retrain
from flows.score import score
from flows.train import train
from visionflows.orchestration.flow_runs import run_name


@pytest.mark.parametrize("flow", [demo, evaluate, notify, retrain, score, train])
def test_each_flow_names_its_runs_by_its_parameters(flow):
    parameters = {name: f"<{name}>" for name in inspect.signature(flow.function).parameters}
    name = run_name(flow.options["flow_run_name"])(parameters)
    assert name.startswith(flow.__name__)
    assert flow is demo or "<" in name
