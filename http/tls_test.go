package http_test

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/stayafrica/messaging/bench/program"
	rest "github.com/stayafrica/messaging/http"
)

// secure is true if all tests of this package use TLS. `make test` runs them both ways.
var secure = os.Getenv("MESSAGING_TEST_TLS") != ""

// certificate is the certificate of servers of tests, which their clients trust.
var certificate = sync.OnceValues(func() (*program.Certificate, error) {
	dir, err := os.MkdirTemp("", "messaging-tls-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	c, err := program.NewCertificate(dir)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	serverPair = pair
	return c, err
})

// serverPair is the pair of certificate, once that was called.
var serverPair tls.Certificate

// serverTLS returns the configuration of servers of tests with TLS. Without a certificate
// each handshake fails.
func serverTLS() *tls.Config {
	_, err := certificate()
	return &tls.Config{
		NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &serverPair, err },
	}
}

// clientTLS returns the configuration of their clients.
func clientTLS() *tls.Config {
	c, err := certificate()
	if err != nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return c.Client()
}

// secured adds TLS to a configuration if all tests use it.
func secured(c rest.Config) rest.Config {
	if secure && c.TLS == nil {
		c.TLS = serverTLS()
	}
	return c
}

// dial opens a connection to a server of the test.
func dial(addr string) (net.Conn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil || !secure {
		return conn, err
	}
	over := tls.Client(conn, clientTLS())
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := over.Handshake(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return over, conn.SetDeadline(time.Time{})
}

// tcpOf returns the TCP connection under a connection of dial.
func tcpOf(conn net.Conn) *net.TCPConn {
	if over, ok := conn.(*tls.Conn); ok {
		conn = over.NetConn()
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}

// closeWrite closes the client's side of a connection of dial.
func closeWrite(conn net.Conn) error {
	if over, ok := conn.(*tls.Conn); ok {
		if err := over.CloseWrite(); err != nil {
			return err
		}
	}
	return tcpOf(conn).CloseWrite()
}

// newTransport returns a transport that trusts the authority of tests.
func newTransport() *http.Transport { return &http.Transport{TLSClientConfig: clientTLS()} }
