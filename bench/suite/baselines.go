package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"golang.org/x/sys/unix"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/traffic"
)

// Names of the baselines.
const (
	emptyHandler = "empty handler"
	rawDisk      = "append + fdatasync"
	pebbleAlone  = "Pebble alone"
)

// emptyServer is the baseline for the cost of HTTP: bench/empty.
type emptyServer struct {
	url string
	cmd *exec.Cmd
}

// startEmpty starts the server and waits until it responds.
func (s *suite) startEmpty() (*emptyServer, error) {
	port, err := program.FreePort()
	if err != nil {
		return nil, err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	e := &emptyServer{url: "http://" + address}
	e.cmd = exec.CommandContext(context.Background(), s.empty, "-addr", address) //nolint:gosec // who runs this names the program
	e.cmd.Stderr = os.Stderr
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := e.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the empty handler (make bench builds it): %w", err)
	}
	c := newClient(address)
	defer c.host.CloseIdleConnections()
	for range 200 {
		if err = c.send(1); err == nil {
			return e, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.Join(err, e.stop())
}

func (e *emptyServer) stop() error {
	err := e.cmd.Process.Kill()
	_ = e.cmd.Wait() // it was killed
	return err
}

// appendAndSync is the baseline for the cost of durability: it appends messages to a
// file one after the other, each with an fdatasync.
func (s *suite) appendAndSync() (measure.Sample, error) {
	f, err := os.Create(filepath.Join(s.work, "append"))
	if err != nil {
		return measure.Sample{}, err
	}
	sample, err := measure.Load(1, s.scale.each, func(_, n int) (int, error) {
		if _, err := f.Write(traffic.Message(n % traffic.Users)); err != nil {
			return 0, err
		}
		return 1, unix.Fdatasync(int(f.Fd()))
	})
	return sample, errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// pebbleDatabase is the baseline for the cost of the database: Pebble alone, with the
// service's options. It commits the records, queue entries and counts of a message
// batch, each batch with an fsync.
type pebbleDatabase struct {
	db   *pebble.DB
	size int
	seq  atomic.Uint64
}

func openDatabase(dir string, size int) (*pebbleDatabase, error) {
	cache := pebble.NewCache(96 << 20)
	defer cache.Unref()
	options := &pebble.Options{
		Cache: cache, FormatMajorVersion: pebble.FormatValueSeparation, MemTableSize: 32 << 20, MemTableStopWritesThreshold: 4,
		L0CompactionThreshold: 4, L0StopWritesThreshold: 48, LBaseMaxBytes: 64 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 }, Logger: fatalLogger{},
	}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, options)
	return &pebbleDatabase{db: db, size: size}, err
}

// commit commits one batch.
func (d *pebbleDatabase) commit(worker, n int) (int, error) {
	batch := d.db.NewBatch()
	size := uint64(d.size) //nolint:gosec // a batch's size
	first := d.seq.Add(size) - size
	user := func(i int) int { return traffic.User(worker, n*d.size+i, traffic.Users) }
	value := make([]byte, 0, 300)
	for i := range d.size {
		value = traffic.AppendMessage(append(value[:0], make([]byte, 48)...), user(i))
		if err := batch.Set(binary.BigEndian.AppendUint64([]byte{'l'}, first+uint64(i)), value, nil); err != nil {
			return 0, err
		}
	}
	for i := range d.size {
		name := strconv.Itoa(user(i))
		prefix := append([]byte{byte(len(name))}, name...) //nolint:gosec // a few digits
		entry := binary.BigEndian.AppendUint64(append(append([]byte{'q'}, prefix...), 1), first+uint64(i))
		err := errors.Join(batch.Set(entry, []byte{1, 0}, nil), batch.Set(append([]byte{'u'}, prefix...), make([]byte, 10), nil))
		if err != nil {
			return 0, err
		}
	}
	return d.size, errors.Join(batch.Commit(pebble.Sync), batch.Close())
}

// fatalLogger discards log output and panics on fatal errors.
type fatalLogger struct{}

func (fatalLogger) Infof(string, ...any)              {}
func (fatalLogger) Errorf(string, ...any)             {}
func (fatalLogger) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
