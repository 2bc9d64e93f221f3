package http_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	rest "github.com/stayafrica/messaging/http"
)

// secure is true if all tests of this package use TLS. `make test` runs them both ways.
var secure = os.Getenv("MESSAGING_TEST_TLS") != ""

// authority signs the certificates of tests, and is what their clients trust.
var authority = sync.OnceValue(func() *authorityOfTests {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of tests"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return &authorityOfTests{key, certificate, pool}
})

type authorityOfTests struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	pool        *x509.CertPool
}

// issue returns a certificate with a name, for servers on loopback and for clients.
func (a *authorityOfTests) issue(name string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serverTLS is the configuration of servers of tests with TLS.
var serverTLS = sync.OnceValue(func() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{authority().issue("server")}, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
})

// clientTLS is the configuration of their clients.
var clientTLS = sync.OnceValue(func() *tls.Config { return &tls.Config{RootCAs: authority().pool, MinVersion: tls.VersionTLS12} })

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
	config := clientTLS().Clone()
	config.ServerName = "127.0.0.1"
	over := tls.Client(conn, config)
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
