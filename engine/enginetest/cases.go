package enginetest

import "slices"

// testCase is one promise of the contract.
type testCase struct {
	name   string
	config Config
	test   func(r *run)
}

// cases are all promises of the contract.
var cases = slices.Concat(queueCases, leaseCases, waitCases, timeCases, onceCases)
