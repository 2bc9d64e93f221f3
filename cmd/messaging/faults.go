package main

import "time"

// Faults are deliberate violations of durability, for negative controls: a test that looks
// for lost messages is valid only if it finds some with a fault. The normal build has no
// faults and no way to enable one; see faults_on.go.
type Faults struct {
	// NoSync acknowledges without an fsync. A power failure then loses acknowledged
	// messages.
	NoSync bool
	// Early is how long before the write a message is acknowledged. Killing the process
	// then loses acknowledged messages.
	Early time.Duration
}
