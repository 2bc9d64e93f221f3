package comparisons

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/traffic"
)

const (
	rabbitPackage = "Debian's package rabbitmq-server"
	// rabbitQueues is how many quorum queues the users share: a queue per user would be
	// 10,000 Raft groups.
	rabbitQueues = 64
	// rabbitConnections is how many connections carry the channels of all workers; more
	// were slower.
	rabbitConnections = 4
)

// rabbitMQ is a node with its own port mapper (epmd).
type rabbitMQ struct {
	epmd, server *server
	addr         string
}

func newRabbitMQ() System { return &rabbitMQ{} }

func (*rabbitMQ) Name() string { return "RabbitMQ" }

func (*rabbitMQ) Detail() string {
	return fmt.Sprintf("%d durable quorum queues on one node, which the users share (one for each of 10,000 is not practical), no priorities; one fdatasync for concurrent messages; "+
		"a send is a publish with confirm; a batch is n publishes and then n confirms; a take is n of basic.get from the user's queue and one ack of all of them, "+
		"to which the server does not respond; by amqp091-go, a channel per worker on %d connections", rabbitQueues, rabbitConnections)
}

func (r *rabbitMQ) Start(dir string) (version string, err error) {
	epmd, err := find("epmd", rabbitPackage)
	if err != nil {
		return "", err
	}
	// Debian's /usr/sbin/rabbitmq-server would switch to another user.
	path, err := find("rabbitmq-server", rabbitPackage, "/usr/lib/rabbitmq/bin")
	if err != nil {
		return "", err
	}
	version, err = r.start(dir, epmd, path)
	if err != nil {
		return "", errors.Join(err, r.Stop())
	}
	return version, nil
}

// start starts the port mapper and the node, and declares the queues.
func (r *rabbitMQ) start(dir, epmd, path string) (version string, err error) {
	var ports [3]int
	for i := range ports {
		if ports[i], err = program.FreePort(); err != nil {
			return "", err
		}
	}
	mapper, port, distribution := strconv.Itoa(ports[0]), strconv.Itoa(ports[1]), strconv.Itoa(ports[2])
	r.addr = address(ports[1])
	r.epmd, err = start(command{
		path: epmd, args: []string{"-address", "127.0.0.1", "-port", mapper}, dir: dir, log: filepath.Join(dir, "epmd.log"),
	})
	if err != nil {
		return "", err
	}
	if err := r.epmd.ready(10*time.Second, accepts(address(ports[0]))); err != nil {
		return "", err
	}
	r.server, err = start(command{path: path, dir: dir, log: filepath.Join(dir, "rabbitmq.log"), env: []string{
		"HOME=" + dir, // for the cookie
		"ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT=" + mapper,
		"RABBITMQ_NODENAME=bench@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT=" + port, "RABBITMQ_DIST_PORT=" + distribution,
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "mnesia"), "RABBITMQ_LOG_BASE=" + dir, "RABBITMQ_LOGS=-",
		// Ignore the system's configuration.
		"RABBITMQ_CONF_ENV_FILE=" + filepath.Join(dir, "rabbitmq-env.conf"), "RABBITMQ_CONFIG_FILE=" + filepath.Join(dir, "rabbitmq.conf"),
		"RABBITMQ_ADVANCED_CONFIG_FILE=" + filepath.Join(dir, "advanced.config"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(dir, "enabled_plugins"),
		"RUNNING_UNDER_SYSTEMD=true", // the script then execs the server, so that a signal stops it cleanly
	}})
	if err != nil {
		return "", err
	}
	err = r.server.ready(time.Minute, func() error {
		version, err = r.declare()
		return err
	})
	return version, err
}

// Stop ends the node and then its port mapper.
func (r *rabbitMQ) Stop() error {
	return errors.Join(r.server.stop(syscall.SIGTERM), r.epmd.stop(syscall.SIGTERM))
}

// declare also serves as the probe of a start.
func (r *rabbitMQ) declare() (version string, err error) {
	c, err := r.connect(1)
	if err != nil {
		return "", err
	}
	for i := range rabbitQueues {
		if _, err := c.channels[0].QueueDeclare(queue(i), true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}); err != nil {
			return "", errors.Join(err, c.Close())
		}
	}
	version, _ = c.connections[0].Properties["version"].(string)
	return version, c.Close()
}

// queue returns the queue of a user's messages.
func queue(user int) string { return fmt.Sprintf("q%02d", user%rabbitQueues) }

func (r *rabbitMQ) Open(clients int) (Clients, error) { return r.connect(clients) }

// rabbitClients has a channel in confirm mode per worker.
type rabbitClients struct {
	connections []*amqp.Connection
	channels    []*amqp.Channel
}

func (r *rabbitMQ) connect(channels int) (*rabbitClients, error) {
	c := new(rabbitClients)
	for range channels {
		if err := c.add("amqp://guest:guest@" + r.addr + "/"); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// add opens another channel, and a connection for it while there are fewer than
// rabbitConnections.
func (r *rabbitClients) add(url string) error {
	if len(r.connections) < rabbitConnections {
		connection, err := amqp.Dial(url)
		if err != nil {
			return err
		}
		r.connections = append(r.connections, connection)
	}
	channel, err := r.connections[len(r.channels)%len(r.connections)].Channel()
	if err != nil {
		return err
	}
	r.channels = append(r.channels, channel)
	return channel.Confirm(false)
}

// errNacked reports that the server refused a message.
var errNacked = errors.New("RabbitMQ did not confirm")

func (r *rabbitClients) publish(worker, user int) (*amqp.DeferredConfirmation, error) {
	return r.channels[worker].PublishWithDeferredConfirm("", queue(user), true, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, ContentType: "application/json", Body: traffic.Message(user)})
}

func confirmed(c *amqp.DeferredConfirmation) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ok, err := c.WaitContext(ctx)
	if err == nil && !ok {
		err = errNacked
	}
	return err
}

func (r *rabbitClients) Send(worker, user int) error { return r.SendBatch(worker, []int{user}) }

func (r *rabbitClients) SendBatch(worker int, users []int) error {
	confirms := make([]*amqp.DeferredConfirmation, len(users))
	for i, u := range users {
		var err error
		if confirms[i], err = r.publish(worker, u); err != nil {
			return err
		}
	}
	for _, c := range confirms {
		if err := confirmed(c); err != nil {
			return err
		}
	}
	return nil
}

func (r *rabbitClients) Take(worker, user, n int) (int, error) {
	var last amqp.Delivery
	taken := 0
	for taken < n {
		d, ok, err := r.channels[worker].Get(queue(user), false)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		last = d
		taken++
	}
	if taken == 0 {
		return 0, nil
	}
	return taken, last.Ack(true)
}

func (r *rabbitClients) Close() error {
	var errs []error
	for _, c := range r.connections {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
