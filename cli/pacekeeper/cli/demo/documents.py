"""The commitments of the demonstration. Delays and leases are seconds, where real ones are days."""

from __future__ import annotations

from typing import Final

PAUSE_DOCUMENT: Final = """# Joint pause of the demonstration

## Article 1. Object

Those who pledge hold the training of models above the threshold together, and none of them alone.

```toml
[commitment]
id = "{id}"
title = "Joint pause of the demonstration"
kind = "pause"

[pause]
above = "1e9 FLOP"
wind_down = "4 s"
```

## Article 2. Entry into force

It enters into force after the delay, once enough are bound; a pledge may depend on who else is bound.

```toml
[entry]
parties = 3
labs = 2
pledges_by = "{pledges_by}"
delay = "4 s"
notice = "1 s"
```

## Article 3. End

It ends with its term, and before that when enough of the parties bound by it say so.

```toml
[term]
length = "1 h"

[lifting]
parties = 3

[withdrawal]
before_entry = "allowed"
cut_off = "1 s"
notice = "10 min"
```

## Article 4. Out of reach of the log

A gate that has heard nothing from the log for longer than its lease holds.

```toml
[lease]
lease = "6 s"
on_lease_end = "hold"
```
"""

SLOW_DOWN_DOCUMENT: Final = """# Slow-down of the demonstration

## Article 1. Object

Whoever pledges slows all training of its labs down to the rate below.

```toml
[commitment]
id = "{id}"
title = "Slow-down of the demonstration"
kind = "slow-down"

[slow-down]
rate = "{rate} FLOP/s"
wind_down = "2 s"

[entry]
parties = 1
pledges_by = "{pledges_by}"
delay = "2 s"
notice = "1 s"

[term]
length = "1 h"

[withdrawal]
before_entry = "allowed"
cut_off = "1 s"
notice = "10 min"
```
"""
