//! Behind a balancer: whose connection it passes on (the PROXY protocol, version 2).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Addresses and whatever the balancer adds to them.
const LONGEST: u16 = 2048;

/// Reads the header that a balancer sends ahead; whom it speaks for, or nobody where it speaks for itself.
pub(crate) async fn header(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<SocketAddr>> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).await?;
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let [.., version, family, high, low] = fixed;
    if fixed[..12] != SIGNATURE || version >> 4 != 2 {
        return Err(wrong("no header of the PROXY protocol, version 2"));
    }
    let length = u16::from_be_bytes([high, low]);
    if length > LONGEST {
        return Err(wrong("a header that is too long"));
    }
    let mut rest = vec![0; length.into()];
    stream.read_exact(&mut rest).await?;
    match version & 0xf {
        // Its own look at whether somebody listens.
        0 => return Ok(None),
        1 => {}
        _ => return Err(wrong("an unknown command")),
    }
    let address = match family {
        0x11 => of_four(&rest),
        0x21 => of_six(&rest),
        _ => None,
    };
    let address = address.ok_or_else(|| wrong("addresses that are none of TCP"))?;
    Ok(Some(address))
}

/// Source and destination, then their ports.
fn of_four(rest: &[u8]) -> Option<SocketAddr> {
    let [a, b, c, d] = *rest.first_chunk()?;
    let [high, low] = *rest.get(8..)?.first_chunk()?;
    rest.get(..12)?;
    let port = u16::from_be_bytes([high, low]);
    Some((IpAddr::from(Ipv4Addr::new(a, b, c, d)), port).into())
}

fn of_six(rest: &[u8]) -> Option<SocketAddr> {
    let address: [u8; 16] = *rest.first_chunk()?;
    let [high, low] = *rest.get(32..)?.first_chunk()?;
    rest.get(..36)?;
    let port = u16::from_be_bytes([high, low]);
    Some((IpAddr::from(Ipv6Addr::from(address)), port).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    async fn read(bytes: &[u8]) -> io::Result<(Option<SocketAddr>, Vec<u8>)> {
        let mut stream = bytes;
        let address = header(&mut stream).await?;
        Ok((address, stream.to_vec()))
    }

    #[tokio::test]
    async fn the_caller_is_whom_the_header_names_and_what_follows_is_left() {
        let four = [203, 0, 113, 9, 10, 0, 0, 1, 0xc3, 0x50, 0x1d, 0x13];
        let more = [&four[..], &[4, 0, 1, 9]].concat();
        let bytes = [sent(0x21, 0x11, &more), b"tls".to_vec()].concat();
        let (address, rest) = read(&bytes).await.expect("a header");
        assert_eq!(address, Some("203.0.113.9:50000".parse().expect("address")));
        assert_eq!(rest, b"tls");
        let mut six = [0; 36];
        six[..16].copy_from_slice(&"2001:db8::9".parse::<Ipv6Addr>().expect("six").octets());
        six[32..34].copy_from_slice(&7u16.to_be_bytes());
        let (address, _) = read(&sent(0x21, 0x21, &six)).await.expect("a header");
        assert_eq!(address, Some("[2001:db8::9]:7".parse().expect("address")));
        let (address, _) = read(&sent(0x20, 0, &[])).await.expect("of its own");
        assert_eq!(address, None);
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let four = [0; 12];
        let mut unsigned = sent(0x21, 0x11, &four);
        unsigned[3] ^= 1;
        for (what, bytes) in [
            (
                "TLS",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and more".to_vec(),
            ),
            (
                "the first version",
                b"PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n".to_vec(),
            ),
            ("another signature", unsigned),
            ("a later version", sent(0x31, 0x11, &four)),
            ("another command", sent(0x22, 0x11, &four)),
            ("half of the addresses", sent(0x21, 0x11, &four[..11])),
            ("no addresses", sent(0x21, 0x21, &[0; 35])),
            ("datagrams", sent(0x21, 0x12, &four)),
            ("a socket of this machine", sent(0x21, 0x31, &[0; 216])),
            ("too much", sent(0x21, 0x11, &[0; 4000])),
            ("half a header", SIGNATURE.to_vec()),
        ] {
            assert!(read(&bytes).await.is_err(), "{what}");
        }
    }
}
