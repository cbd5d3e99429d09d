"""A made-up host that behaves as kernel and libvirt do: for tests, and for an agent that is told to simulate."""
