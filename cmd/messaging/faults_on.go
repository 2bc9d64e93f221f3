//go:build faults

package main

import (
	"os"
	"time"
)

// faults returns the fault that MESSAGING_FAULT names: "nosync" or "early".
func faults() Faults {
	switch os.Getenv("MESSAGING_FAULT") {
	case "nosync":
		return Faults{NoSync: true}
	case "early":
		return Faults{Early: 5 * time.Millisecond}
	}
	return Faults{}
}
