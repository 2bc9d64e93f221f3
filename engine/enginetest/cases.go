package enginetest

import "slices"

// testCase is one guarantee of the contract.
type testCase struct {
	name   string
	config Config
	test   func(r *run)
}

// cases are all guarantees of the contract.
var cases = slices.Concat(queueCases, leaseCases, waitCases, timeCases, idempotencyCases)
