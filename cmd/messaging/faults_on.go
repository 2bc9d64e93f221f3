//go:build faults

package main

import (
	"os"
	"time"
)

// faults reads from MESSAGING_FAULT, "nosync" or "early", which promise to break.
func faults() Faults {
	switch os.Getenv("MESSAGING_FAULT") {
	case "nosync":
		return Faults{NoSync: true}
	case "early":
		return Faults{Early: 5 * time.Millisecond}
	}
	return Faults{}
}
