package comparisons

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/traffic"
)

const (
	postgresPackage = "Debian's package postgresql"
	// postgresUser is the role of the benchmark.
	postgresUser = "bench"

	postgresTable = `
CREATE TABLE messages (id bigserial PRIMARY KEY, user_id bigint NOT NULL, priority smallint NOT NULL, body text NOT NULL);
CREATE INDEX ON messages (user_id, priority, id)`
	postgresInsert = `INSERT INTO messages (user_id, priority, body) VALUES ($1, $2, $3)`
	postgresBatch  = `INSERT INTO messages (user_id, priority, body) SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::text[])`
	// The ARRAY subquery selects the ids once, so the planner uses the index for the
	// delete.
	postgresTake = `DELETE FROM messages WHERE id = ANY (ARRAY(
SELECT id FROM messages WHERE user_id = $1 ORDER BY priority, id LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING id, body`
)

// postgresDirs returns the directories, newest version first, where Debian installs the
// server's commands, which are not in PATH.
func postgresDirs() []string {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is valid
	slices.Sort(dirs)
	slices.Reverse(dirs)
	return dirs
}

// postgres is one table with an index on user, priority and id.
type postgres struct {
	server   *server
	dir      string
	port     int
	password string
}

func newPostgres() System { return &postgres{} }

func (*postgres) Name() string { return "PostgreSQL" }

func (*postgres) Detail() string {
	return "fsync and synchronous_commit on (one fdatasync for all concurrent commits), shared_buffers 512 MB, max_wal_size 4 GB; one table indexed by (user_id, priority, id); " +
		"a send is a prepared INSERT in a transaction of its own; a batch is one INSERT of arrays; a take is one DELETE of the rows of a SELECT FOR UPDATE SKIP LOCKED; " +
		"by pgx, a connection per worker"
}

func (p *postgres) Start(dir string) (version string, err error) {
	initdb, err := find("initdb", postgresPackage, postgresDirs()...)
	if err != nil {
		return "", err
	}
	path, err := find("postgres", postgresPackage, postgresDirs()...)
	if err != nil {
		return "", err
	}
	if version, err = versionOf(path, "--version"); err != nil {
		return "", err
	}
	p.dir, p.password = dir, rand.Text()
	if p.port, err = program.FreePort(); err != nil {
		return "", err
	}
	as, err := p.init(initdb)
	if err != nil {
		return "", err
	}
	p.server, err = start(command{path: path, dir: "/", as: as, log: filepath.Join(dir, "postgres.log"), args: []string{
		"-D", filepath.Join(dir, "data"), "-p", strconv.Itoa(p.port), "-h", "127.0.0.1", "-k", "",
		"-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "shared_buffers=512MB", "-c", "max_connections=600", "-c", "max_wal_size=4GB",
	}})
	if err != nil {
		return "", err
	}
	if err := p.server.ready(20*time.Second, p.createTable); err != nil {
		return "", errors.Join(err, p.Stop())
	}
	return version, nil
}

// init creates the database cluster. If this process is root, it runs as the user
// postgres, because the server refuses to run as root. MD5 passwords let hundreds of
// clients connect quickly.
func (p *postgres) init(initdb string) (as *account, err error) {
	data, password := filepath.Join(p.dir, "data"), filepath.Join(p.dir, "password")
	if err := errors.Join(os.Mkdir(data, 0o700), os.WriteFile(password, []byte(p.password), 0o600)); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		if as, err = accountOf("postgres"); err != nil {
			return nil, err
		}
		if err := errors.Join(os.Chown(data, int(as.uid), int(as.gid)), os.Chown(password, int(as.uid), int(as.gid))); err != nil {
			return nil, err
		}
	}
	_, err = run(command{path: initdb, dir: "/", as: as, args: []string{
		"-D", data, "-U", postgresUser, "--auth=md5", "--pwfile", password, "--encoding=UTF8", "--locale=C", "--no-sync",
	}})
	return as, err
}

// accountOf looks up a user of the operating system.
func accountOf(name string) (*account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &account{uid: uint32(uid), gid: uint32(gid)}, err
}

// createTable also serves as the probe of a start.
func (p *postgres) createTable() error {
	ctx := context.Background()
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, postgresTable)
	return errors.Join(err, conn.Close(ctx))
}

func (p *postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=postgres sslmode=disable", p.port, postgresUser, p.password))
}

// Stop ends the server with a fast shutdown, which disconnects the clients.
func (p *postgres) Stop() error { return p.server.stop(syscall.SIGINT) }

func (p *postgres) Open(clients int) (Clients, error) {
	ctx := context.Background()
	list := make(postgresClients, 0, clients)
	for range clients {
		conn, err := p.connect(ctx)
		if err != nil {
			return nil, errors.Join(err, list.Close())
		}
		list = append(list, conn)
	}
	return list, nil
}

type postgresClients []*pgx.Conn

func (p postgresClients) Send(worker, user int) error {
	_, err := p[worker].Exec(context.Background(), postgresInsert, user, traffic.Priority(user), string(traffic.Message(user)))
	return err
}

func (p postgresClients) SendBatch(worker int, users []int) error {
	priorities, bodies := make([]int16, len(users)), make([]string, len(users))
	for i, u := range users {
		priorities[i], bodies[i] = int16(traffic.Priority(u)), string(traffic.Message(u)) //nolint:gosec // 0 to 2
	}
	_, err := p[worker].Exec(context.Background(), postgresBatch, users, priorities, bodies)
	return err
}

func (p postgresClients) Take(worker, user, n int) (int, error) {
	tag, err := p[worker].Exec(context.Background(), postgresTake, user, n) // Exec reads the rows and discards them
	return int(tag.RowsAffected()), err
}

func (p postgresClients) Close() error {
	var errs []error
	for _, c := range p {
		errs = append(errs, c.Close(context.Background()))
	}
	return errors.Join(errs...)
}
