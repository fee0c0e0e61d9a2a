"""Which policy is on? Built from the settings, replaced when `control.json` changes. Of an engine
that is passed through it is always `fcfs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vllm.logger import init_logger

from scorpio import channel
from scorpio.core.latency import UNMEASURED, LatencyProfile
from scorpio.core.policy import Policy
from scorpio.core.registry import PolicyInputs, make_policy
from scorpio.core.snapshot import EngineLimits
from scorpio.settings import STOCK, ScorpioSettings

logger = init_logger("vllm.scorpio")
POLL_PERIOD_S = 0.05


class PolicySwitch:
    """Holds the current policy; `poll` says whether it has just been replaced."""

    def __init__(
        self, settings: ScorpioSettings, limits: EngineLimits, passthrough: Sequence[str] = ()
    ) -> None:
        self._passthrough = passthrough
        self.profile = settings.profile()
        self._limits = limits
        self._run_dir = settings.run_dir
        self._polled_s = float("-inf")
        self._stamp: channel.Stamp = None
        self._seq = 0
        self._control: channel.Control | None = None
        self._error = ""
        self.record_steps = False
        name, options = settings.policy, settings.policy_options
        if passthrough:
            name, options = STOCK, {}
        self._options: Mapping[str, float] = dict(options)
        self.policy: Policy = self.build(name, options)

    def poll(self, now_s: float, idle: bool) -> bool:
        """Follow `control.json`: at once when nothing runs, so that the first request after a
        switch is decided by the new policy, else every POLL_PERIOD_S (a look at a file lets other
        threads have the interpreter). A request that cannot be carried out leaves the old policy
        on and shows up as `control_error` in the status."""
        if self._run_dir is None or not (idle or now_s - self._polled_s >= POLL_PERIOD_S):
            return False
        self._polled_s = now_s
        stamp = channel.stamp(self._run_dir, channel.CONTROL)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        control = channel.read_control(self._run_dir)
        if control is None or control == self._control:
            return False
        self._control = control
        self._seq = control.seq
        if self._passthrough:
            self._error = f"passthrough, for {', '.join(self._passthrough)}: the policy is {STOCK}"
            return False
        self.record_steps = control.record_steps
        try:
            profile = self.profile
            if control.latency is not None:
                profile = LatencyProfile.from_dict(control.latency)
            policy = self._made(control.policy, profile, control.options)
            self.policy, self.profile = policy, profile
            self._options, self._error = dict(control.options), ""
        except Exception as error:  # whatever it is: the old policy stays on, and says why
            self._error = str(error)
            logger.error("Policy switch refused: %s", error)
        return True

    @property
    def options(self) -> Mapping[str, float]:
        """Of the policy that is on, as they were given."""
        return self._options

    def state(self) -> dict[str, object]:
        """What `/scorpio/status` shows of the switch."""
        return {
            "policy": self.policy.name,
            "policy_options": self._options,
            "control_seq": self._seq,
            "control_error": self._error,
            "latency_source": "none" if self.profile is None else self.profile.source,
        }

    def build(self, name: str, options: Mapping[str, float] | None = None) -> Policy:
        """A policy for this engine. Raises ValueError on an unknown name or option."""
        return self._made(name, self.profile, options or {})

    def _made(
        self, name: str, profile: LatencyProfile | None, options: Mapping[str, float]
    ) -> Policy:
        inputs = PolicyInputs(profile or UNMEASURED, self._limits, dict(options))
        return make_policy(name, inputs)
