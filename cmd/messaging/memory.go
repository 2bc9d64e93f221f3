package main

import (
	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memory returns the memory that the process may use, in bytes: the limit of its control
// group, or the memory of the machine. It returns 0 if neither is known.
func memory() uint64 {
	limit, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
	if err != nil {
		return 0
	}
	return limit
}

// cacheFor returns the cache size for an amount of memory. The cache is outside the heap,
// so garbage does not multiply it, and its pages use memory only once they are written.
func cacheFor(memory uint64) int64 {
	const least, most = 32 << 20, 1 << 30
	return int64(min(max(memory/32, least), most))
}

// orAuto returns a setter that also accepts "auto", for which it calls auto.
func orAuto(set func(*Config, string) error, auto func(*Config)) func(*Config, string) error {
	return func(c *Config, s string) error {
		if s == "auto" {
			auto(c)
			return nil
		}
		return set(c, s)
	}
}
