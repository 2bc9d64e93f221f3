package comparisons

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/beanstalkd/go-beanstalk"

	"github.com/stayafrica/messaging/bench/traffic"
)

// beanstalkd has a tube per user, with priorities.
type beanstalkd struct {
	server *server
	addr   string
}

func newBeanstalkd() System { return &beanstalkd{} }

func (*beanstalkd) Name() string { return "beanstalkd" }

func (*beanstalkd) Detail() string {
	return "-f0: an fsync per put; a tube per user, three priorities; put; a batch is puts pipelined on one connection; " +
		"a take is n times reserve-with-timeout 0 and then n times delete, both pipelined; by go-beanstalk, a connection per worker"
}

func (b *beanstalkd) Start(dir string) (version string, err error) {
	path, err := find("beanstalkd", "Debian's package beanstalkd")
	if err != nil {
		return "", err
	}
	c := command{path: path, dir: dir, log: filepath.Join(dir, "beanstalkd.log")}
	b.server, b.addr, version, err = serve(c, "-v", func(port int) []string {
		return []string{"-l", "127.0.0.1", "-p", fmt.Sprint(port), "-b", dir, "-f", "0"}
	})
	return version, err
}

func (b *beanstalkd) Stop() error { return b.server.stop(syscall.SIGTERM) }

func (b *beanstalkd) Open(clients int) (Clients, error) {
	list := make(beanstalkClients, 0, clients)
	for range clients {
		c, err := beanstalk.Dial("tcp", b.addr)
		if err != nil {
			return nil, errors.Join(err, list.Close())
		}
		list = append(list, c)
	}
	return list, nil
}

type beanstalkClients []*beanstalk.Conn

const beanstalkTTR = time.Minute

func put(c *beanstalk.Conn, user int) error {
	tube := beanstalk.Tube{Conn: c, Name: strconv.Itoa(user)}
	_, err := tube.Put(traffic.Message(user), uint32(traffic.Priority(user)), 0, beanstalkTTR) //nolint:gosec // 0 to 2
	return err
}

func (b beanstalkClients) Send(worker, user int) error { return put(b[worker], user) }

func (b beanstalkClients) SendBatch(worker int, users []int) error {
	return concurrently(len(users), func(i int) error { return put(b[worker], users[i]) })
}

func (b beanstalkClients) Take(worker, user, n int) (int, error) {
	c := b[worker]
	tube := beanstalk.TubeSet{Conn: c, Name: map[string]bool{strconv.Itoa(user): true}}
	reserved := make([]uint64, n)
	found := make([]bool, n)
	err := concurrently(n, func(i int) (err error) {
		reserved[i], _, err = tube.Reserve(0)
		found[i] = err == nil
		if errors.Is(err, beanstalk.ErrTimeout) {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	ids := reserved[:0]
	for i, id := range reserved {
		if found[i] {
			ids = append(ids, id)
		}
	}
	return len(ids), concurrently(len(ids), func(i int) error { return c.Delete(ids[i]) })
}

func (b beanstalkClients) Close() error {
	var errs []error
	for _, c := range b {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// concurrently calls do for 0 to n-1 at the same time. The client writes each command
// when do is called and reads the responses in the same order.
func concurrently(n int, do func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = do(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
