"""Meters on the words that real devices say, and the plain answer where there is none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from alm_bench.energy import battery, measure_energy, pmic, rapl
from alm_bench.energy.meter import NoMeter, PowerMeter
from alm_bench.machine import noise
from alm_bench.machine.environment import throttled
from alm_bench.machine.noise import judge

PI_5 = """\
 3V7_WL_SW_A current(0)=0.09857438A
   3V3_SYS_A current(1)=0.06733980A
   1V8_SYS_A current(2)=0.16298240A
  DDR_VDD2_A current(3)=0.02537606A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.18249660A
    0V8_SW_A current(6)=0.32696550A
  VDD_CORE_A current(7)=1.24716000A
   3V3_DAC_A current(17)=0.00000000A
 3V7_WL_SW_V volt(8)=3.73171100V
   3V3_SYS_V volt(9)=3.31376600V
   1V8_SYS_V volt(10)=1.79560900V
  DDR_VDD2_V volt(11)=1.10622500V
  DDR_VDDQ_V volt(12)=0.61172080V
   1V1_SYS_V volt(13)=1.10512600V
    0V8_SW_V volt(14)=0.80402920V
  VDD_CORE_V volt(15)=0.72083890V
   3V3_DAC_V volt(20)=3.30769600V
     EXT5V_V volt(24)=5.15142000V
      BATT_V volt(25)=0.00000000V
"""
PHONE = """\
Current Battery Service state:
  AC powered: false
  USB powered: {usb}
  Wireless powered: false
  Dock powered: false
  Max charging current: 0
  Charge counter: {charge}
  status: 3
  health: 2
  present: true
  level: 78
  scale: 100
  voltage: {millivolts}
  temperature: 281
  technology: Li-ion
"""


def zone(folder: Path, name: str, label: str, count: int, top: int = 262143328850) -> Path:
    made = folder / name
    made.mkdir(parents=True)
    (made / "name").write_text(f"{label}\n")
    (made / "energy_uj").write_text(f"{count}\n")
    (made / "max_energy_range_uj").write_text(f"{top}\n")
    return made


def test_rapl_adds_packages_and_memory_and_survives_its_range(tmp_path: Path) -> None:
    one = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 500)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 7_000_000)
    two = zone(tmp_path, "intel-rapl:1", "package-1", 9_000_000, top=9_999_999)
    with rapl.find(tmp_path) as meter:
        (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("99000000")
        (one / "energy_uj").write_text("3500000")
        (memory / "energy_uj").write_text("7250000")
        (two / "energy_uj").write_text("500000")
        # 2.5 J, 0.25 J, and 1.5 J over the end of the counter.
        assert meter.joules() == pytest.approx(4.25)


def test_rapl_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoMeter, match="does not exist"):
        rapl.find(tmp_path / "powercap")
    with pytest.raises(NoMeter, match="a virtual machine usually has none"):
        rapl.find(tmp_path)


def test_the_power_of_a_pi_5() -> None:
    # By hand, rail by rail; EXT5V and BATT have no current.
    assert pmic.watts(PI_5) == pytest.approx(
        0.367851 + 0.223148 + 0.292652 + 0.028072 + 0.201682 + 0.262890 + 0.899002, abs=1e-4
    )
    with pytest.raises(NoMeter, match="only a Pi 5 has them"):
        pmic.watts('error=1 error_msg="Command not registered"')


def test_power_is_summed_over_time() -> None:
    with PowerMeter(lambda: 3.0, 0.01) as meter:
        started = time.monotonic()
        while time.monotonic() < started + 0.05:
            pass
        joules, least = meter.joules(), 3 * (time.monotonic() - started)
    assert joules >= 3 * 0.05
    assert joules == pytest.approx(least, rel=0.5)


def test_a_phone_battery() -> None:
    state = battery.parse(PHONE.format(usb="false", charge=3_210_000, millivolts=4012))
    assert state == battery.State(3_210_000, 4.012, False)
    assert battery.parse(PHONE.format(usb="true", charge=1, millivolts=4000)).powered
    for broken, reason in (("Charge counter: 0", "no charge counter"), ("voltage: x", "no charge counter")):
        with pytest.raises(NoMeter, match=reason):
            battery.parse(broken)
    with pytest.raises(NoMeter, match="no voltage"):
        battery.parse("  Charge counter: 5\n")


def test_the_energy_of_a_battery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dumpsys, said = tmp_path / "dumpsys", tmp_path / "said"
    dumpsys.write_text(f'#!/bin/sh\ntest "$1" = battery && cat {said}\n')
    dumpsys.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    said.write_text(PHONE.format(usb="false", charge=2_000_000, millivolts=4000))
    with battery.find() as meter:
        said.write_text(PHONE.format(usb="false", charge=1_990_000, millivolts=3900))
        assert meter.joules() == pytest.approx(36 * 3.95)
        said.write_text(PHONE.format(usb="true", charge=1_990_000, millivolts=3900))
        with pytest.raises(NoMeter, match="a charger was connected"):
            meter.joules()
    with pytest.raises(NoMeter, match="the device is charging"):
        battery.find()


def test_energy_is_above_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    power = iter([2.0])

    class Constant:
        def __enter__(self) -> Constant:
            self.watts, self.begun = next(power, 5.0), time.monotonic()
            return self

        def __exit__(self, *exc: object) -> None: ...

        def joules(self) -> float:
            return self.watts * (time.monotonic() - self.begun)

    monkeypatch.setattr("alm_bench.energy.METERS", {"a meter": Constant})
    monkeypatch.setattr("alm_bench.energy.IDLE_S", 0.01)
    energy = measure_energy(lambda seconds: time.sleep(0.1) or 4)
    assert energy.source == "a meter" and energy.passes == 4
    assert energy.joules_per_pass == pytest.approx(3.0 * 0.1 / 4, rel=0.3)


def test_no_meter_is_said_with_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> PowerMeter:
        raise NoMeter("it is not here")

    monkeypatch.setattr("alm_bench.energy.METERS", {"one": none, "two": none})
    energy = measure_energy(lambda seconds: 1)
    assert energy.source == "not available: one: it is not here; two: it is not here"
    assert energy.joules_per_pass is None


def test_throttling_in_words() -> None:
    assert throttled("throttled=0x0\n") == "no"
    assert throttled("throttled=0x50005\n") == (
        "under-voltage, throttled, under-voltage since boot, throttled since boot"
    )


def test_why_a_machine_is_busy() -> None:
    steady, shaky = (1.0, 1.0, 1.0, 1.01), (1.0, 1.5, 2.0, 1.1)
    assert judge(steady, steady, 0.05).busy == ()
    assert "other processes used 0.50 cores" in judge(steady, steady, 0.5).busy[0]
    assert "spread by" in judge(shaky, steady, 0.0).busy[0]
    assert "+50% afterwards" in judge(steady, tuple(1.5 * x for x in steady), 0.0).busy[0]


def test_cores_of_others_are_what_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, own, now = iter((10.0, 16.0, 16.0)), iter((2.0, 4.0, 9.0)), iter((0.0, 8.0, 8.0))
    monkeypatch.setattr(noise, "_machine_seconds", lambda: next(machine))
    monkeypatch.setattr(noise, "_own_seconds", lambda: next(own))
    monkeypatch.setattr(noise.time, "monotonic", lambda: next(now))
    others = noise.Others()
    assert others.cores() == 0.5
    # Two counters of the system that are read one after the other may differ by a tick.
    assert others.cores() == 0.0
