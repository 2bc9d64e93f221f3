//go:build !faults

package main

func faults() Faults { return Faults{} }
