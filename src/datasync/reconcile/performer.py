"""Operations, carried out: each in a task of its own, and the planner is told how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from datasync import Refused
from datasync.reconcile.handlers import Handlers
from datasync.reconcile.operations import Seen, Verb
from datasync.reconcile.planner import Planner
from datasync.reconcile.plans import Plan, Plans
from datasync.reconcile.slots import ABSENT, Operation
from datasync.reconcile.status import Outcome
from datasync.reconcile.told import text_of
from datasync.reconcile.turns import News

__all__ = ["Performer"]

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


class Performer:
    """Carries out operations.

    planner, plans: hear how they ended.
    spawn: makes a task with a name, and sees to its end.
    tell: called then with what is to be told, and the plan that the operation is part of.
    """

    def __init__(
        self, planner: Planner, plans: Plans, spawn: Spawn, tell: Callable[[News, Plan], None]
    ) -> None:
        self._planner = planner
        self._plans = plans
        self._spawn = spawn
        self._tell = tell
        self._cancellable: dict[Operation, asyncio.Task[None]] = {}
        """Those that run, and may be cancelled for a newer value."""
        self._outdated: set[Operation] = set()
        """Those that have been."""

    def start(self, op: Operation, plan: Plan) -> None:
        """Carry it out as part of that plan."""
        assert isinstance(op.kind, Handlers)
        self._plans.started(plan, op)
        task = self._spawn(self._perform(op, op.kind, plan), f"{op.verb.value} {op.key}")
        if op.kind.can_cancel(op.verb):
            self._cancellable[op] = task

    def cancel_outdated(self) -> None:
        """Cancel what makes something that is not wanted any more, where its kind allows that."""
        for op, task in list(self._cancellable.items()):
            if self._planner.is_outdated(op):
                del self._cancellable[op]
                self._outdated.add(op)
                task.cancel()

    async def _perform(self, op: Operation, kind: Handlers, plan: Plan) -> None:
        planner = self._planner
        now = asyncio.get_running_loop().time
        outcome: Outcome = "failed"
        why = ""
        tell: Callable[[], None]
        try:
            told = await self._call(op, kind)
        except Refused as error:
            why = str(error)
            if op.verb in (Verb.CREATE, Verb.UPDATE):
                outcome = "refused"
                tell = partial(planner.refused, op, why)
            else:
                tell = partial(planner.failed, op, why, now())
        except asyncio.CancelledError:
            if op in self._outdated:
                outcome, why = "cancelled", "for a newer value"
                tell = partial(planner.cancelled, op)
            elif _is_cancelled():
                # by the end of the reconciler, of which the planner hears nothing; or by others
                self._plans.ended(plan, op, "cancelled")
                self._tell(partial(planner.failed, op, "cancelled", now()), plan)
                raise
            else:
                why = "cancelled by itself"
                tell = partial(planner.failed, op, why, now())
        except Exception as error:
            permanent = op.verb is not Verb.RETRIEVE and kind.is_permanent(error)
            why = text_of(error)
            tell = partial(planner.failed, op, why, now(), permanent=permanent)
        else:
            outcome = "done"
            ended = planner.retrieved if op.verb is Verb.RETRIEVE else planner.done
            tell = partial(ended, op, told)
        finally:
            self._cancellable.pop(op, None)
            self._outdated.discard(op)

        def end() -> None:
            tell()
            self._plans.ended(plan, op, outcome, why)

        self._tell(end, plan)

    async def _call(self, op: Operation, kind: Handlers) -> Any:
        """The handle, or what is there."""
        if op.verb is Verb.CREATE:
            return await kind.create(op.key, op.new)
        if op.verb is Verb.UPDATE:
            return await kind.update(op.key, op.old, op.new, op.handle)
        if op.verb is Verb.DELETE:
            return await kind.delete(op.key, op.old, op.handle)
        expected = {} if op.new is ABSENT else {op.key: op.new}
        found: dict[str, Seen] = await kind.retrieve(expected, {op.key})
        return found.get(op.key)


def _is_cancelled() -> bool:
    """Whether somebody else cancels this task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
