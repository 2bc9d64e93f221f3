package main

import (
	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memory is how much the process may use, in bytes: the limit of its control group,
// or else what the machine has. It is 0 where nobody says.
func memory() uint64 {
	limit, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
	if err != nil {
		return 0
	}
	return limit
}

// cacheFor is the cache for so much memory. Other than the heap it does not grow
// again when it is in use, and its pages are taken as messages come.
func cacheFor(memory uint64) int64 {
	const least, most = 32 << 20, 1 << 30
	return int64(min(max(memory/32, least), most))
}

// orAuto sets a value that may also be found out.
func orAuto(set func(*Config, string) error, auto func(*Config)) func(*Config, string) error {
	return func(c *Config, s string) error {
		if s == "auto" {
			auto(c)
			return nil
		}
		return set(c, s)
	}
}
