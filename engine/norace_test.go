//go:build !race

package engine_test

// slower is by how much the race detector shortens the rigs.
const slower = 1
