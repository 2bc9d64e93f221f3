package comparisons

import "syscall"

// capDACOverride lets a process enter directories of other users.
const capDACOverride = 1

// attributes makes a server die with this process and run as another user. That user
// can still enter the directories above its own, which are often private to whoever
// runs the benchmark.
func attributes(as *account) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if as != nil {
		a.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
		a.AmbientCaps = []uintptr{capDACOverride}
	}
	return a
}
