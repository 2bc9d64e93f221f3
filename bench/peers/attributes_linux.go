package peers

import "syscall"

// capDACOverride lets a process pass directories that are not its own.
const capDACOverride = 1

// attributes let a server die with this process, and run as another user. That
// one may still pass the directories above its own, which are often private to
// who runs the benchmark.
func attributes(as *account) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if as != nil {
		a.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
		a.AmbientCaps = []uintptr{capDACOverride}
	}
	return a
}
