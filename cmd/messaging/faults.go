package main

import "time"

// Faults are deliberate breaches of the promise. A rig that looks for losses is
// run with one of them too, and proves nothing unless it finds some. The
// program as it is built for use has none and no way to switch one on: see
// faults_on.go.
type Faults struct {
	// NoSync answers without an fsync: a power cut loses what was answered.
	NoSync bool
	// Early answers so long before anything is written: killing the process
	// loses what was answered.
	Early time.Duration
}
