//go:build !linux

package peers

import "syscall"

// attributes are none here: a server outlives a harness that is killed, and one
// that refuses to run as root says so.
func attributes(*account) *syscall.SysProcAttr { return nil }
