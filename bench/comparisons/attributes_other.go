//go:build !linux

package comparisons

import "syscall"

// attributes returns nothing here: a server outlives a killed harness, and a server
// that refuses to run as root fails with its own message.
func attributes(*account) *syscall.SysProcAttr { return nil }
