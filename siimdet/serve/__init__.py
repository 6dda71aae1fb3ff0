"""The web application and the hospital's side: server, DICOM results, PACS."""
