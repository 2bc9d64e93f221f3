//go:build !race

package engine_test

// slower is the factor by which the race detector shortens the rigs.
const slower = 1
