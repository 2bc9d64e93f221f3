package main

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/traffic"
)

// idles measures a service with idle keep-alive connections, each of which has made one
// request, and a bare net/http server with as many.
func idles(s *suite) error {
	for _, n := range s.scale.idle {
		if err := s.idlesWith(n); err != nil {
			return err
		}
	}
	return nil
}

// idleCost is the cost of idle connections.
type idleCost struct{ resident, descriptors float64 }

func (s *suite) idlesWith(n int) error {
	result := measure.Result{Workload: "idle", Size: float64(n), SizeName: "idle connections"}
	memory, files, others := result, result, result
	memory.Case, memory.Unit = plural(n, "idle connection")+", resident", "MiB"
	files.Case, files.Unit = plural(n, "idle connection")+", descriptors", "files"
	others.Case, others.Unit = plural(n, "idle connection")+", others' p99", "ms"
	if n >= 10_000 {
		memory.Goals = []measure.Goal{{Most: 300e6 / (1 << 20)}}
		others.Goals = []measure.Goal{{Against: "without", Most: 2}}
	}
	side := measure.Side{Name: ours, Detail: "as many connections that made one request each"}
	bare := measure.Side{Name: emptyHandler, Detail: "net/http and httprouter with as many"}
	open, with, without := side, measure.Side{Name: "with"}, measure.Side{Name: "without"}
	for range max(1, s.rounds/2) {
		err := s.with("idle", func(v *service) error {
			calm, err := v.othersFor(s.scale.rest)
			if err != nil {
				return err
			}
			cost, busy, err := v.idle(n, s.scale.rest)
			side.Samples = append(side.Samples, measure.Sample{Value: cost.resident})
			open.Samples = append(open.Samples, measure.Sample{Value: cost.descriptors})
			with.Samples = append(with.Samples, measure.Sample{Value: busy.At(0.99), Latency: busy.Summary()})
			without.Samples = append(without.Samples, measure.Sample{Value: calm.At(0.99), Latency: calm.Summary()})
			return err
		})
		if err != nil {
			return err
		}
		cost, err := s.idleBare(n)
		if err != nil {
			return err
		}
		bare.Samples = append(bare.Samples, measure.Sample{Value: cost.resident})
	}
	memory.Sides, files.Sides, others.Sides = []measure.Side{side, bare}, []measure.Side{open}, []measure.Side{with, without}
	s.keep(memory)
	s.keep(files)
	s.keep(others)
	return nil
}

// idle opens the connections, inspects the process after a pause, and measures other
// requests meanwhile.
func (v *service) idle(n int, rest time.Duration) (cost idleCost, others *measure.Latencies, err error) {
	request := "GET /api/messages/queue/1/size HTTP/1.1\r\nHost: localhost\r\n\r\n"
	conns, err := openIdle(strings.TrimPrefix(v.URL, "http://"), request, n)
	defer closeAll(conns)
	if err != nil {
		return cost, measure.NewLatencies(), err
	}
	cost, err = costOf(v.PID, rest)
	others, failed := v.othersFor(rest)
	return cost, others, errors.Join(err, failed)
}

// idleBare measures the same on a bare server.
func (s *suite) idleBare(n int) (cost idleCost, err error) {
	e, err := s.startEmpty()
	if err != nil {
		return cost, err
	}
	body := string(traffic.Message(1))
	request := "POST /api/messages/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	conns, err := openIdle(strings.TrimPrefix(e.url, "http://"), request, n)
	defer closeAll(conns)
	if err == nil {
		cost, err = costOf(e.cmd.Process.Pid, s.scale.rest)
	}
	return cost, errors.Join(err, e.stop())
}

func costOf(pid int, rest time.Duration) (cost idleCost, err error) {
	time.Sleep(rest)
	if cost.resident, err = resident(pid); err != nil {
		return cost, err
	}
	cost.descriptors, err = descriptors(pid)
	return cost, err
}

// openIdle opens connections, makes one request on each and reads the response.
func openIdle(address, request string, n int) (conns []net.Conn, err error) {
	buffer := make([]byte, 4096)
	for range n {
		c, err := net.Dial("tcp", address) //nolint:noctx // on loopback
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
		if _, err := c.Write([]byte(request)); err != nil {
			return conns, err
		}
		if _, err := c.Read(buffer); err != nil {
			return conns, err
		}
	}
	return conns, nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close() // no request is pending
	}
}
