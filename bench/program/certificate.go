package program

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority issues certificates for loopback. It writes them into its directory.
type Authority struct {
	// File is the certificate of the authority, and Pool has it.
	File string
	Pool *x509.CertPool

	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Certificate is a certificate with its private key, in files.
type Certificate struct {
	CertFile, KeyFile string
	pool              *x509.CertPool
}

// certificateLife is how long certificates are valid.
const certificateLife = 24 * time.Hour

// NewAuthority makes an authority, and writes its certificate to ca.pem.
func NewAuthority(dir string) (*Authority, error) {
	a := &Authority{File: filepath.Join(dir, "ca.pem"), Pool: x509.NewCertPool(), dir: dir}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, key, err := a.sign(template)
	if err != nil {
		return nil, err
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	a.key = key
	a.Pool.AddCert(a.certificate)
	return a, writePEM(a.File, "CERTIFICATE", der)
}

// Issue writes <file>.key and <file>.pem, for servers and clients: a certificate with a
// common name. It replaces each file at once, the key first.
func (a *Authority) Issue(file, name string) (*Certificate, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, key, err := a.sign(template)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	c := &Certificate{CertFile: filepath.Join(a.dir, file+".pem"), KeyFile: filepath.Join(a.dir, file+".key"), pool: a.Pool}
	return c, errors.Join(writePEM(c.KeyFile, "PRIVATE KEY", private), writePEM(c.CertFile, "CERTIFICATE", der))
}

// sign makes a key and signs a certificate for it. Without a certificate of its own, the
// authority signs with that key.
func (a *Authority) sign(template *x509.Certificate) (der []byte, key *ecdsa.PrivateKey, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	template.SerialNumber, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(certificateLife)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer); err != nil {
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	return der, key, nil
}

func writePEM(path, kind string, der []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(path+".new", path)
}

// NewCertificate writes a certificate of a new authority into a directory.
func NewCertificate(dir string) (*Certificate, error) {
	a, err := NewAuthority(dir)
	if err != nil {
		return nil, err
	}
	return a.Issue("server", "server")
}

// Client returns the configuration of a client that trusts the authority of the
// certificate.
func (c *Certificate) Client() *tls.Config {
	return &tls.Config{RootCAs: c.pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// env returns the settings of a service with the certificate.
func (c *Certificate) env() []string {
	return []string{"TLS_CERT=" + c.CertFile, "TLS_KEY=" + c.KeyFile}
}
