//go:build profile

package main

import (
	"log"
	"os"
	"runtime/pprof"
)

// profiled writes a CPU profile, from now until stop, to the file that
// MESSAGING_CPU_PROFILE names. See docs/explanation/performance.md.
func profiled() (stop func()) {
	path := os.Getenv("MESSAGING_CPU_PROFILE")
	if path == "" {
		return func() {}
	}
	f, err := os.Create(path)
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		log.Fatalln("MESSAGING_CPU_PROFILE:", err)
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			log.Println("MESSAGING_CPU_PROFILE:", err)
		}
	}
}
