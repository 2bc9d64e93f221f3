package comparisons

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/stayafrica/messaging/bench/traffic"
)

const (
	// natsStream holds all messages under the subjects msg.<user>.<priority>.
	natsStream = "messages"
	// natsConnections is how many connections the workers share; more were slower.
	natsConnections = 16
	// natsAtomic is the batch size from which an atomic batch, with its four fsyncs, is
	// faster than an fsync per message.
	natsAtomic = 20

	natsTimeout = 30 * time.Second
)

// natsJetStream is one stream with a subject per user and priority.
type natsJetStream struct {
	server *server
	addr   string
}

func newNATS() System { return &natsJetStream{} }

func (*natsJetStream) Name() string { return "NATS JetStream" }

func (*natsJetStream) Detail() string {
	return fmt.Sprintf("file store, sync_interval always: an fsync per message; one stream, a subject per user and priority, taken in the order of sending; "+
		"a send is a publish with ack; a batch of %d or more is an atomic batch publish (four fsyncs), a smaller one n publishes and then n acks; "+
		"a take is one direct get of n by subject and then one purge of the subject up to the last of them (consumers for each user were slower); "+
		"by nats.go and orbit.go, %d connections or one a worker", natsAtomic, natsConnections)
}

func (n *natsJetStream) Start(dir string) (version string, err error) {
	path, err := find("nats-server", "make bench-deps", moduleBin())
	if err != nil {
		return "", err
	}
	config, err := json.Marshal(map[string]any{
		"host": "127.0.0.1",
		"jetstream": map[string]any{
			"store_dir": filepath.Join(dir, "store"), "sync_interval": "always",
			"limits": map[string]any{"batch": map[string]any{"max_inflight_per_stream": 1000, "max_inflight_total": 1000}},
		},
	})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return "", err
	}
	c := command{path: path, dir: dir, log: filepath.Join(dir, "nats.log")}
	n.server, n.addr, version, err = serve(c, "--version", func(port int) []string { return []string{"--config", file, "--port", fmt.Sprint(port)} })
	if err != nil {
		return "", err
	}
	if err := n.createStream(); err != nil {
		return "", errors.Join(err, n.Stop())
	}
	return version, nil
}

func (n *natsJetStream) createStream() error {
	conn, js, err := n.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = js.CreateStream(context.Background(), jetstream.StreamConfig{
		Name: natsStream, Subjects: []string{"msg.>"}, Storage: jetstream.FileStorage, Retention: jetstream.WorkQueuePolicy,
		AllowDirect: true, AllowAtomicPublish: true,
	})
	return err
}

func (n *natsJetStream) Stop() error { return n.server.stop(syscall.SIGTERM) }

func (n *natsJetStream) connect() (*nats.Conn, jetstream.JetStream, error) {
	conn, err := nats.Connect("nats://"+n.addr, nats.MaxReconnects(0))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(natsTimeout), jetstream.WithPublishAsyncTimeout(natsTimeout))
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, js, nil
}

func (n *natsJetStream) Open(clients int) (Clients, error) {
	list := make(natsClients, 0, natsConnections)
	for range min(clients, natsConnections) {
		conn, js, err := n.connect()
		if err != nil {
			return nil, errors.Join(err, list.Close())
		}
		list = append(list, natsClient{conn: conn, js: js})
		if list[len(list)-1].stream, err = js.Stream(context.Background(), natsStream); err != nil {
			return nil, errors.Join(err, list.Close())
		}
	}
	return list, nil
}

type natsClient struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
}

// natsClients are connections that the workers share.
type natsClients []natsClient

func (n natsClients) forWorker(worker int) natsClient { return n[worker%len(n)] }

func subject(user int) string {
	return fmt.Sprintf("msg.%d.%s", user, traffic.Priorities[traffic.Priority(user)])
}

func (n natsClients) Send(worker, user int) error {
	_, err := n.forWorker(worker).js.Publish(context.Background(), subject(user), traffic.Message(user))
	return err
}

func (n natsClients) SendBatch(worker int, users []int) error {
	messages := make([]*nats.Msg, len(users))
	for i, u := range users {
		messages[i] = &nats.Msg{Subject: subject(u), Header: nats.Header{}, Data: traffic.Message(u)}
	}
	js := n.forWorker(worker).js
	if len(messages) < natsAtomic {
		return publishAll(js, messages)
	}
	_, err := jetstreamext.PublishMsgBatch(context.Background(), js, messages)
	return err
}

// publishAll publishes all messages and then waits for all acks.
func publishAll(js jetstream.JetStream, messages []*nats.Msg) error {
	acks := make([]jetstream.PubAckFuture, len(messages))
	for i, m := range messages {
		var err error
		if acks[i], err = js.PublishMsgAsync(m); err != nil {
			return err
		}
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return err
		}
	}
	return nil
}

func (n natsClients) Take(worker, user, count int) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), natsTimeout)
	defer cancel()
	client, filter := n.forWorker(worker), fmt.Sprintf("msg.%d.>", user)
	messages, err := jetstreamext.GetBatch(ctx, client.js, natsStream, count, jetstreamext.GetBatchSubject(filter))
	if err != nil {
		return 0, err
	}
	taken, last := 0, uint64(0)
	for m, err := range messages {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		taken, last = taken+1, m.Sequence
	}
	return taken, client.stream.Purge(ctx, jetstream.WithPurgeSubject(filter), jetstream.WithPurgeSequence(last+1))
}

func (n natsClients) Close() error {
	for _, c := range n {
		c.conn.Close()
	}
	return nil
}
