package comparisons

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/redis/rueidis"

	"github.com/stayafrica/messaging/bench/traffic"
)

const (
	redisPackage = "Debian's package redis-server"
	// redisMultiplex is the binary logarithm of the number of connections: two; more
	// were slower.
	redisMultiplex = 1
)

// redis is a stream per user, without priorities.
type redis struct {
	server *server
	addr   string
}

func newRedis() System { return &redis{} }

func (*redis) Name() string { return "Redis streams" }

func (*redis) Detail() string {
	return "appendonly yes, appendfsync always (one fdatasync for concurrent commands), no RDB; a stream per user, no priorities; XADD; a batch is a pipeline of XADDs; " +
		"a take is XRANGE COUNT and then XDEL; by rueidis, which pipelines concurrent calls on two connections"
}

func (r *redis) Start(dir string) (version string, err error) {
	path, err := find("redis-server", redisPackage)
	if err != nil {
		return "", err
	}
	c := command{path: path, dir: dir, log: filepath.Join(dir, "redis.log")}
	r.server, r.addr, version, err = serve(c, "--version", func(port int) []string {
		return []string{
			"--bind", "127.0.0.1", "--port", fmt.Sprint(port), "--dir", dir, "--daemonize", "no", "--loglevel", "warning",
			"--appendonly", "yes", "--appendfsync", "always", "--save", "",
		}
	})
	return version, err
}

func (r *redis) Stop() error { return r.server.stop(syscall.SIGTERM) }

func (r *redis) Open(int) (Clients, error) {
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{r.addr}, DisableCache: true, AlwaysPipelining: true, PipelineMultiplex: redisMultiplex,
	})
	if err != nil {
		return nil, err
	}
	return &redisClients{c: c}, nil
}

// redisClients is one client for all workers, which lets it pipeline their calls.
type redisClients struct{ c rueidis.Client }

// streamKey formats a key in the way in which redis-benchmark writes a random number.
func streamKey(user int) string { return fmt.Sprintf("stream:%012d", user) }

func (r *redisClients) add(user int) rueidis.Completed {
	return r.c.B().Xadd().Key(streamKey(user)).Id("*").FieldValue().FieldValue("m", rueidis.BinaryString(traffic.Message(user))).Build()
}

func (r *redisClients) Send(_, user int) error {
	return r.c.Do(context.Background(), r.add(user)).Error()
}

func (r *redisClients) SendBatch(_ int, users []int) error {
	commands := make([]rueidis.Completed, len(users))
	for i, u := range users {
		commands[i] = r.add(u)
	}
	var errs []error
	for _, result := range r.c.DoMulti(context.Background(), commands...) {
		errs = append(errs, result.Error())
	}
	return errors.Join(errs...)
}

func (r *redisClients) Take(_, user, n int) (int, error) {
	ctx := context.Background()
	key := streamKey(user)
	entries, err := r.c.Do(ctx, r.c.B().Xrange().Key(key).Start("-").End("+").Count(int64(n)).Build()).AsXRange()
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.ID
	}
	deleted, err := r.c.Do(ctx, r.c.B().Xdel().Key(key).Id(ids...).Build()).AsInt64()
	return int(deleted), err
}

func (r *redisClients) Close() error {
	r.c.Close()
	return nil
}
