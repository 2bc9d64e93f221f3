//go:build !linux

package main

import (
	"errors"
	"time"
)

func beforeAllOthers() error { return errors.ErrUnsupported }

func sleep(d time.Duration) { time.Sleep(d) }
