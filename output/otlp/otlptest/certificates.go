// SPDX-License-Identifier: Apache-2.0

package otlptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificates writes what two ends show each other: ca.pem, and signed by it server.pem with server.key, for 127.0.0.1
// and the addresses given, and client.pem with client.key. They are valid for an hour.
func Certificates(dir string, addresses ...string) error {
	ips := []net.IP{net.IPv4(127, 0, 0, 1)}
	for _, a := range addresses {
		ips = append(ips, net.ParseIP(a))
	}
	ca, caKey, err := certify(dir, "ca", nil, nil, nil)
	if err != nil {
		return err
	}
	_, _, serverErr := certify(dir, "server", ips, ca, caKey)
	_, _, clientErr := certify(dir, "client", nil, ca, caKey)
	return errors.Join(serverErr, clientErr)
}

// certify makes a certificate; without a parent it signs itself, and others.
func certify(dir, name string, ips []net.IP, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: parent == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: ips,
	}
	if parent == nil {
		parent, parentKey = cert, key
	}
	signed, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return cert, key, errors.Join(
		write(filepath.Join(dir, name+".pem"), "CERTIFICATE", signed),
		write(filepath.Join(dir, name+".key"), "PRIVATE KEY", private))
}

func write(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
